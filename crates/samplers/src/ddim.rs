//! DDIM, with the lesson's clamp and rule.

use crate::options::options;
use crate::sampling::{Sampling, ancestral_step, combine, slope, steps};
use crate::{Domain, Sample};
use candle_core::{Result, Tensor};

options! {
    /// DDIM (Song 2020, eq. 12) in σ coordinates on any model: x′ = clamp(D) + σ_down·(x−D)/σ + σ_up·z. Without clamp and floor its steps
    /// are those of [`crate::EulerAncestral`]. The lesson's has a clamp at ±1.5 on pixels x − ½, which is 3 here, a floor of 0.01, and
    /// scale ½. Its first noise is that of x_t, of standard deviation √(1/b² + σ²) instead of σ. One evaluation a step.
    pub struct Ddim {
        /// How much fresh noise a step takes: 0 (none) to 1 (as much as Ho 2020)
        eta: f64 = 1.0, Domain::Number(0.0, 1.0);
        /// D is clamped to ± this; inf for no clamp
        clamp: f64 = f64::INFINITY, Domain::Number(1e-3, f64::INFINITY);
        /// No fresh noise where it leaves at most this of the variance of x_t to the rest: 1−ᾱ′−σ² at most this
        floor: f64 = 0.0, Domain::Number(0.0, 1.0);
        /// b: x_t's images are in pixels of [-b,b] [default: the model's]
        scale: f64 = 1.0, Domain::Number(1e-3, 1e3);
    }
}

impl Sample for Ddim {
    fn start_std(&self, sigma: f64) -> f64 {
        self.scale.recip().hypot(sigma)
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        for (sigma, next) in steps(sigmas) {
            let (sigma_down, sigma_up) = self.step(sigma, next);
            let denoised = sampling.begin_step(&x, sigma)?;
            let d = slope(&x, &denoised, sigma)?;
            let clamped = match self.clamp.is_finite() {
                true => denoised.clamp(-self.clamp, self.clamp)?,
                false => denoised,
            };
            x = combine(1.0, &clamped, sigma_down, &d)?;
            x = sampling.add_noise(x, sigma_up, sigma, next)?;
        }
        Ok(x)
    }
}

impl Ddim {
    /// (σ_down, σ_up): of x_t = √ᾱ·(x₀ + bσ·z), 1 − ᾱ′ − σ_t² = (bσ_down)²·ᾱ′ must be above the floor.
    fn step(&self, sigma: f64, next: f64) -> (f64, f64) {
        let (sigma_down, sigma_up) = ancestral_step(sigma, next, self.eta);
        let alpha_bar = (1.0 + (self.scale * next).powi(2)).recip();
        match (self.scale * sigma_down).powi(2) * alpha_bar > self.floor || self.floor == 0.0 {
            true => (sigma_down, sigma_up),
            false => (next, 0.0),
        }
    }
}
