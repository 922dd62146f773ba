//! The command line of exp-23-karras and the settings that it samples.

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, ValueEnum};
use elucidate_lab::options::{Preset, RunOptions};
use elucidate_lab::sampling::Setting;
use elucidate_samplers::{Churn, NoiseInput, Sampler};
use serde::{Deserialize, Serialize};

/// Train the UNet on Fashion-MNIST with Karras preconditioning, sample with every sampler, score with FID and KID.
///
/// Everything lands in the run's folder: run.json, train.csv, samples.csv, charts and pictures (*.png), model/,
/// checkpoint/ and log.txt. With --sampler only that one setting is sampled, instead of the notebook's list.
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-23-karras", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,

    #[command(flatten)]
    pub edm: EdmOptions,

    #[command(flatten)]
    pub one: OneSetting,
}

/// Options of the preconditioning, which training and sampling must agree on.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub struct EdmOptions {
    /// The data's standard deviation that the preconditioning assumes, in pixels of [-1,1]
    #[arg(long, default_value_t = 0.66, value_name = "SIGMA")]
    pub sigma_data: f64,

    /// What the network is told of the noise level: sigma itself, as the notebook has it, or EDM's ln(sigma)/4
    #[arg(long, value_enum, default_value_t = NoiseInputName::Sigma)]
    pub noise_input: NoiseInputName,
}

impl EdmOptions {
    /// # Errors
    /// When a value is impossible.
    pub fn check(&self) -> Result<()> {
        let Self { sigma_data, .. } = self;
        ensure!(
            sigma_data.is_finite() && *sigma_data > 0.0,
            "--sigma-data {sigma_data} is impossible: give a number above 0"
        );
        Ok(())
    }
}

/// [`NoiseInput`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseInputName {
    /// σ itself.
    Sigma,
    /// ¼·ln σ.
    QuarterLogSigma,
}

impl From<NoiseInputName> for NoiseInput {
    fn from(name: NoiseInputName) -> Self {
        match name {
            NoiseInputName::Sigma => NoiseInput::Sigma,
            NoiseInputName::QuarterLogSigma => NoiseInput::QuarterLogSigma,
        }
    }
}

/// Options of one setting to be sampled alone.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "One setting alone")]
pub struct OneSetting {
    /// The sampler
    #[arg(long, value_enum)]
    pub sampler: Option<SamplerName>,

    /// Steps, the last one down to sigma 0
    #[arg(long, default_value_t = 20, value_name = "N", requires = "sampler")]
    pub steps: usize,

    /// Curvature of the sigma steps
    #[arg(long, default_value_t = 7.0, requires = "sampler")]
    pub rho: f64,

    /// The smallest sigma above 0
    #[arg(long, default_value_t = 0.01, requires = "sampler", value_name = "SIGMA")]
    pub sigma_min: f64,

    /// The sigma to begin with
    #[arg(long, default_value_t = 80.0, requires = "sampler", value_name = "SIGMA")]
    pub sigma_max: f64,

    /// How much fresh noise an ancestral step takes, 0 to 1
    #[arg(long, default_value_t = 0.5, requires = "sampler")]
    pub eta: f64,

    /// Heun's churn: how much noise is added back over all steps
    #[arg(long, default_value_t = 0.0, requires = "sampler")]
    pub s_churn: f64,

    /// Order of the multistep method, 1 to 4
    #[arg(long, default_value_t = 4, requires = "sampler")]
    pub order: usize,
}

/// The samplers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SamplerName {
    /// Euler's method.
    Euler,
    /// Euler's method with fresh noise.
    EulerAncestral,
    /// Heun's method, with churn.
    Heun,
    /// Linear multistep.
    Lms,
}

impl OneSetting {
    /// The setting that is asked for, if one is.
    ///
    /// # Errors
    /// When one of its values is impossible.
    pub fn setting(&self) -> Result<Option<Setting>> {
        let Some(name) = self.sampler else { return Ok(None) };
        let positive = |option: &str, value: f64| -> Result<()> {
            ensure!(
                value.is_finite() && value > 0.0,
                "--{option} {value} is impossible: give a number above 0"
            );
            Ok(())
        };
        positive("rho", self.rho)?;
        positive("sigma-min", self.sigma_min)?;
        positive("sigma-max", self.sigma_max)?;
        ensure!(self.steps > 0, "--steps 0 is impossible: give at least 1");
        if self.sigma_min >= self.sigma_max {
            bail!("--sigma-min {} must be below --sigma-max {}", self.sigma_min, self.sigma_max);
        }
        ensure!((0.0..=1.0).contains(&self.eta), "--eta {} is impossible: give 0 to 1", self.eta);
        ensure!(
            self.s_churn.is_finite() && self.s_churn >= 0.0,
            "--s-churn {} is impossible: give 0 or more",
            self.s_churn
        );
        ensure!((1..=4).contains(&self.order), "--order {} is impossible: give 1 to 4", self.order);
        let sampler = match name {
            SamplerName::Euler => Sampler::Euler,
            SamplerName::EulerAncestral => Sampler::EulerAncestral { eta: self.eta },
            SamplerName::Heun => Sampler::Heun { churn: churn(self.s_churn) },
            SamplerName::Lms => Sampler::Lms { order: self.order },
        };
        let Self { steps, rho, sigma_min, sigma_max, .. } = *self;
        Ok(Some(Setting { sampler, steps, rho, sigma_min, sigma_max }))
    }
}

fn churn(s_churn: f64) -> Churn {
    Churn { s_churn, ..Churn::default() }
}

/// The notebook's list: Euler 100, ancestral 100, Heun 50 and 20, Heun 20 with churn, LMS 20. The smoke preset takes a
/// tenth of the steps.
pub fn notebook_settings(preset: Preset) -> Vec<Setting> {
    let setting = |sampler, steps: usize| Setting {
        sampler,
        steps: if preset == Preset::Smoke { (steps / 10).max(3) } else { steps },
        rho: 7.0,
        sigma_min: 0.01,
        sigma_max: 80.0,
    };
    let heun = |s_churn| Sampler::Heun { churn: churn(s_churn) };
    vec![
        setting(Sampler::Euler, 100),
        setting(Sampler::EulerAncestral { eta: 0.5 }, 100),
        setting(heun(0.0), 50),
        setting(heun(0.0), 20),
        setting(heun(0.5), 20),
        setting(Sampler::Lms { order: 4 }, 20),
    ]
}

/// Heun with 18 steps at each ρ.
pub fn rho_settings(preset: Preset) -> Vec<Setting> {
    let (steps, rhos): (_, &[f64]) = match preset {
        Preset::Smoke => (3, &[1.0, 7.0]),
        _ => (18, &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0]),
    };
    let sampler = || Sampler::Heun { churn: churn(0.0) };
    rhos.iter()
        .map(|&rho| Setting { sampler: sampler(), steps, rho, sigma_min: 0.01, sigma_max: 80.0 })
        .collect()
}
