//! Euler's method, with churn.

use crate::options::options;
use crate::sampling::{Churn, Sampling, euler_step, slope, steps};
use crate::{Domain, Sample};
use candle_core::{Result, Tensor};

options! {
    /// Euler's method on the probability-flow ODE, order 1, with churn (Karras 2022, algorithm 2 without its correction;
    /// k-diffusion's `sample_euler`). One evaluation a step.
    pub struct Euler {
        /// How much noise is added back over all steps: γ = min(S_churn/N, √2 − 1) a step
        s_churn: f64 = 0.0, Domain::Number(0.0, f64::INFINITY);
        /// The smallest σ at which churn adds noise
        s_tmin: f64 = 0.0, Domain::Number(0.0, f64::INFINITY);
        /// The largest σ at which churn adds noise
        s_tmax: f64 = f64::INFINITY, Domain::Number(0.0, f64::INFINITY);
        /// Standard deviation of the noise that churn adds
        s_noise: f64 = 1.0, Domain::Number(0.0, f64::INFINITY);
    }
}

impl Sample for Euler {
    fn nfe(&self, steps: usize) -> Option<usize> {
        Some(steps)
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let Self { s_churn, s_tmin, s_tmax, s_noise } = *self;
        let churn = Churn { s_churn, s_tmin, s_tmax, s_noise };
        for (sigma, next) in steps(sigmas) {
            let sigma_hat;
            (x, sigma_hat) = churn.raise(sampling, x, sigma, sigmas.len() - 1)?;
            let denoised = sampling.begin_step(&x, sigma_hat)?;
            x = euler_step(&x, &slope(&x, &denoised, sigma_hat)?, sigma_hat, next)?;
        }
        Ok(x)
    }
}
