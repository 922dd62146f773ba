//! DPM-Solver++(2S) with fresh noise.

use crate::options::options;
use crate::sampling::{Sampling, ancestral_step, combine, euler_step, slope, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// Ancestral sampling whose way down is DPM-Solver++(2S) (Lu 2022b, algorithm 1; k-diffusion's `sample_dpmpp_2s_ancestral`). Two
    /// evaluations a step, but one in a step to σ = 0.
    pub struct Dpmpp2sAncestral {
        fresh_noise;
    }
}

impl Sample for Dpmpp2sAncestral {
    fn nfe(&self, steps: usize) -> Option<usize> {
        Some((2 * steps).saturating_sub(1))
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        for (sigma, next) in steps(sigmas) {
            let (sigma_down, sigma_up) = ancestral_step(sigma, next, self.eta);
            let denoised = sampling.begin_step(&x, sigma)?;
            x = if sigma_down == 0.0 {
                euler_step(&x, &slope(&x, &denoised, sigma)?, sigma, sigma_down)?
            } else {
                // x′ = (σ′/σ)·x + (1 − σ′/σ)·D, first to the middle in λ = −ln σ, then with D from there.
                let middle = (sigma * sigma_down).sqrt();
                let towards = |to: f64, d: &Tensor| combine(to / sigma, &x, 1.0 - to / sigma, d);
                let x_middle = towards(middle, &denoised)?;
                towards(sigma_down, &sampling.denoise(&x_middle, middle)?)?
            };
            x = sampling.add_noise(x, self.s_noise * sigma_up, sigma, next)?;
        }
        Ok(x)
    }
}
