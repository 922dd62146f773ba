//! The command line of exp-23-karras and the settings that it samples.

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, ValueEnum};
use elucidate_lab::one_setting::{One, OneSetting, churn};
use elucidate_lab::options::{Preset, RunOptions};
use elucidate_lab::program::CommandLine;
use elucidate_lab::sampling::Setting;
use elucidate_samplers::{NoiseInput, Sampler};
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

impl CommandLine for Options {
    const EXPERIMENT: &'static str = "23_karras";

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

impl Options {
    /// The setting that is asked for alone, if one is.
    ///
    /// # Errors
    /// When one of its values is impossible, or it needs a model that predicts the noise.
    pub fn alone(&self) -> Result<Option<Setting>> {
        match self.one.setting()? {
            Some(One::Ddim(_)) => {
                bail!("--sampler ddim: it needs a model that predicts the noise, as exp-22-cosine has")
            }
            Some(One::Sigma(setting)) => Ok(Some(setting)),
            None => Ok(None),
        }
    }
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

/// The notebook's list: Euler 100, ancestral 100, Heun 50 and 20, Heun 20 with churn, LMS 20. The smoke preset takes a
/// tenth of the steps.
pub fn notebook_settings(preset: Preset) -> Vec<Setting> {
    let setting = |sampler, steps| Setting::notebook(sampler, preset.steps(steps));
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
    let heun = Sampler::Heun { churn: churn(0.0) };
    rhos.iter().map(|&rho| Setting { rho, ..Setting::notebook(heun, steps) }).collect()
}
