//! The samplers by name, with their options.

use crate::{Churn, Denoiser, Noise, euler, euler_ancestral, heun, lms};
use candle_core::{Result, Tensor};

/// A sampler and its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// [`euler`].
    Euler,
    /// [`euler_ancestral`].
    EulerAncestral {
        /// How much fresh noise a step takes, 0 to 1.
        eta: f64,
    },
    /// [`heun`].
    Heun {
        /// How much noise is added back.
        churn: Churn,
    },
    /// [`lms`].
    Lms {
        /// Order of the method, 1 to 4.
        order: usize,
    },
}

impl Sampler {
    /// Its name in options and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Euler => "euler",
            Self::EulerAncestral { .. } => "euler_ancestral",
            Self::Heun { .. } => "heun",
            Self::Lms { .. } => "lms",
        }
    }

    /// Network evaluations for each sample in `steps` steps, the last one down to σ = 0.
    pub fn nfe(&self, steps: usize) -> usize {
        match self {
            Self::Heun { .. } => (2 * steps).saturating_sub(1),
            _ => steps,
        }
    }

    /// Samples: from noise `x` at scale `sigmas[0]` down to the last of `sigmas`.
    ///
    /// # Errors
    /// When an option is impossible, the σ steps do not go down, or the model or the noise fails.
    pub fn sample(
        &self,
        denoiser: &impl Denoiser,
        x: &Tensor,
        sigmas: &[f64],
        noise: Noise,
    ) -> Result<Tensor> {
        match *self {
            Self::Euler => euler(denoiser, x, sigmas),
            Self::EulerAncestral { eta } => euler_ancestral(denoiser, x, sigmas, eta, noise),
            Self::Heun { churn } => heun(denoiser, x, sigmas, churn, noise),
            Self::Lms { order } => lms(denoiser, x, sigmas, order),
        }
    }
}
