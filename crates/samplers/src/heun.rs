//! Heun's method, with churn.

use crate::options::options;
use crate::sampling::{Sampling, euler_step, slope, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// Heun's method on the probability-flow ODE, order 2, with churn (Karras 2022, algorithm 2; without churn, algorithm 1;
    /// k-diffusion's `sample_heun`). Two evaluations a step, but one in a step to σ = 0.
    pub struct Heun {
        churn;
    }
}

impl Sample for Heun {
    fn nfe(&self, steps: usize) -> Option<usize> {
        Some((2 * steps).saturating_sub(1))
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let churn = self.churn();
        for (sigma, next) in steps(sigmas) {
            let sigma_hat;
            (x, sigma_hat) = churn.raise(sampling, x, sigma, sigmas.len() - 1)?;
            // From here on everything is at σ̂: the slope is taken there and the step begins there.
            let denoised = sampling.begin_step(&x, sigma_hat)?;
            let d = slope(&x, &denoised, sigma_hat)?;
            let euler = euler_step(&x, &d, sigma_hat, next)?;
            x = match next {
                0.0 => euler,
                _ => {
                    let d_next = slope(&euler, &sampling.denoise(&euler, next)?, next)?;
                    euler_step(&x, &((d + d_next)? / 2.0)?, sigma_hat, next)?
                }
            };
        }
        Ok(x)
    }
}
