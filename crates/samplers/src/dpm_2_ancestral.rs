//! The midpoint method with fresh noise.

use crate::dpm_2::midpoint_step;
use crate::options::options;
use crate::sampling::{Sampling, ancestral_step, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// Ancestral sampling whose way down is that of [`crate::Dpm2`] (k-diffusion's `sample_dpm_2_ancestral`). Two evaluations a
    /// step, but one in a step to σ = 0.
    pub struct Dpm2Ancestral {
        fresh_noise;
    }
}

impl Sample for Dpm2Ancestral {
    fn nfe(&self, steps: usize) -> Option<usize> {
        Some((2 * steps).saturating_sub(1))
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        for (sigma, next) in steps(sigmas) {
            let (sigma_down, sigma_up) = ancestral_step(sigma, next, self.eta);
            let denoised = sampling.begin_step(&x, sigma)?;
            x = midpoint_step(sampling, &x, &denoised, sigma, sigma_down)?;
            x = sampling.add_noise(x, self.s_noise * sigma_up, sigma, next)?;
        }
        Ok(x)
    }
}
