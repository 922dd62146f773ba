//! Euler's method with fresh noise.

use crate::options::options;
use crate::sampling::{Sampling, ancestral_step, euler_step, slope, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// Ancestral sampling (k-diffusion's `sample_euler_ancestral`): each step goes down past σ′ to σ_down by Euler's method and
    /// comes back up with fresh noise of σ_up, σ_down² + σ_up² = σ′² (Song 2020, eq. 16, in σ coordinates). One evaluation a step.
    pub struct EulerAncestral {
        fresh_noise;
    }
}

impl Sample for EulerAncestral {
    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        for (sigma, next) in steps(sigmas) {
            let (sigma_down, sigma_up) = ancestral_step(sigma, next, self.eta);
            let denoised = sampling.begin_step(&x, sigma)?;
            x = euler_step(&x, &slope(&x, &denoised, sigma)?, sigma, sigma_down)?;
            x = sampling.add_noise(x, self.s_noise * sigma_up, sigma, next)?;
        }
        Ok(x)
    }
}
