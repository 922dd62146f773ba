//! DPM-Solver++ on the SDE, single step.

use crate::options::options;
use crate::sampling::{Sampling, ancestral_step, combine, euler_step, slope, steps};
use crate::{Domain, Sample};
use candle_core::{Result, Tensor};

options! {
    /// DPM-Solver++ of order 2, single step, on the SDE (Lu 2022b; k-diffusion's `sample_dpmpp_sde`). Two evaluations a step, but one
    /// in a step to σ = 0.
    pub struct DpmppSde {
        fresh_noise;
        /// Where between the ends in ln σ a step looks
        r: f64 = 0.5, Domain::Number(0.01, 1.0);
    }
}

impl Sample for DpmppSde {
    fn is_sde(&self) -> bool {
        true
    }

    fn nfe(&self, steps: usize) -> Option<usize> {
        Some((2 * steps).saturating_sub(1))
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let Self { eta, s_noise, r } = *self;
        for (sigma, next) in steps(sigmas) {
            let denoised = sampling.begin_step(&x, sigma)?;
            if next == 0.0 {
                x = euler_step(&x, &slope(&x, &denoised, sigma)?, sigma, next)?;
                continue;
            }
            let towards = |to: f64, d: &Tensor| combine(to / sigma, &x, 1.0 - to / sigma, d);
            // To σ_s, r of the way in λ = −ln σ.
            let sigma_s = (sigma.ln() + r * (next.ln() - sigma.ln())).exp();
            let (sigma_down, sigma_up) = ancestral_step(sigma, sigma_s, eta);
            let x_s = sampling.add_noise(towards(sigma_down, &denoised)?, s_noise * sigma_up, sigma, sigma_s)?;
            let denoised_s = sampling.denoise(&x_s, sigma_s)?;
            // The whole step, with D extrapolated from both.
            let (sigma_down, sigma_up) = ancestral_step(sigma, next, eta);
            let share = 1.0 / (2.0 * r);
            let extrapolated = combine(1.0 - share, &denoised, share, &denoised_s)?;
            x = sampling.add_noise(towards(sigma_down, &extrapolated)?, s_noise * sigma_up, sigma, next)?;
        }
        Ok(x)
    }
}
