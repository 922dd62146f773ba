//! The options that sample one setting alone, instead of the notebook's list.

use crate::ddim::DdimSetting;
use crate::sampling::Setting;
use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use elucidate_samplers::{Churn, Ddim, Sampler};

/// ± this is where 22_cosine clamps x̂₀ in DDIM's steps.
pub const X0_CLAMP: f64 = 1.5;

/// Beyond, x is nothing but noise many times over, and its squares leave f32.
const LARGEST_SIGMA: f64 = 1e6;

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub enum One {
    /// A sampler over σ steps.
    Sigma(Setting),
    /// The lesson's DDIM.
    Ddim(DdimSetting),
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

    /// How much fresh noise a step takes (euler_ancestral, ddim), 0 to 1
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
    /// The lesson's DDIM, on models that predict the noise.
    Ddim,
}

impl OneSetting {
    /// The setting that is asked for, if one is.
    ///
    /// # Errors
    /// When one of its values is impossible.
    pub fn setting(&self) -> Result<Option<One>> {
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
        ensure!(
            self.sigma_max <= LARGEST_SIGMA,
            "--sigma-max {} is impossible: give at most {LARGEST_SIGMA}",
            self.sigma_max
        );
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
        let Self { steps, rho, sigma_min, sigma_max, eta, .. } = *self;
        let sampler = match name {
            SamplerName::Ddim => {
                let options = Ddim { eta, x0_clamp: X0_CLAMP };
                return Ok(Some(One::Ddim(DdimSetting { steps, options, estimates: None })));
            }
            SamplerName::Euler => Sampler::Euler,
            SamplerName::EulerAncestral => Sampler::EulerAncestral { eta },
            SamplerName::Heun => Sampler::Heun { churn: churn(self.s_churn) },
            SamplerName::Lms => Sampler::Lms { order: self.order },
        };
        Ok(Some(One::Sigma(Setting { sampler, steps, rho, sigma_min, sigma_max })))
    }
}

/// Heun's churn at every σ.
pub fn churn(s_churn: f64) -> Churn {
    Churn { s_churn, ..Churn::default() }
}
