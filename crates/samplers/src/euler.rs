//! Euler's method, with churn.

use crate::options::options;
use crate::sampling::{Sampling, euler_step, slope, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// Euler's method on the probability-flow ODE, order 1, with churn (Karras 2022, algorithm 2 without its correction;
    /// k-diffusion's `sample_euler`). One evaluation a step.
    pub struct Euler {
        churn;
    }
}

impl Sample for Euler {
    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let churn = self.churn();
        for (sigma, next) in steps(sigmas) {
            let sigma_hat;
            (x, sigma_hat) = churn.raise(sampling, x, sigma, sigmas.len() - 1)?;
            let denoised = sampling.begin_step(&x, sigma_hat)?;
            x = euler_step(&x, &slope(&x, &denoised, sigma_hat)?, sigma_hat, next)?;
        }
        Ok(x)
    }
}
