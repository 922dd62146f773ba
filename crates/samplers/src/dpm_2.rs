//! The midpoint method, with churn.

use crate::options::options;
use crate::sampling::{Sampling, euler_step, slope, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// The midpoint method, whose midpoint is the geometric mean of the noise levels, so it is DPM-Solver-2 (Lu 2022, algorithm 4) in
    /// σ coordinates, with churn (k-diffusion's `sample_dpm_2`). Order 2; two evaluations a step, but one in a step to σ = 0.
    pub struct Dpm2 {
        churn;
    }
}

impl Sample for Dpm2 {
    fn nfe(&self, steps: usize) -> Option<usize> {
        Some((2 * steps).saturating_sub(1))
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let churn = self.churn();
        for (sigma, next) in steps(sigmas) {
            let sigma_hat;
            (x, sigma_hat) = churn.raise(sampling, x, sigma, sigmas.len() - 1)?;
            let denoised = sampling.begin_step(&x, sigma_hat)?;
            x = midpoint_step(sampling, &x, &denoised, sigma_hat, next)?;
        }
        Ok(x)
    }
}

/// A step of the midpoint method from `sigma`, where D is `denoised`, to `next`; Euler's where that is 0.
pub(crate) fn midpoint_step(
    sampling: &mut Sampling,
    x: &Tensor,
    denoised: &Tensor,
    sigma: f64,
    next: f64,
) -> Result<Tensor> {
    let d = slope(x, denoised, sigma)?;
    if next == 0.0 {
        return euler_step(x, &d, sigma, next);
    }
    let middle = (sigma * next).sqrt();
    let x_middle = euler_step(x, &d, sigma, middle)?;
    let d_middle = slope(&x_middle, &sampling.denoise(&x_middle, middle)?, middle)?;
    euler_step(x, &d_middle, sigma, next)
}
