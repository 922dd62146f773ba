//! DPM-Solver++(2M).

use crate::options::options;
use crate::sampling::{Sampling, combine, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// DPM-Solver++(2M), multistep of order 2 (Lu 2022b, algorithm 2; k-diffusion's `sample_dpmpp_2m`). One evaluation a step.
    pub struct Dpmpp2m {}
}

impl Sample for Dpmpp2m {
    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        // D and h = λ′ − λ of the step before, λ = −ln σ.
        let mut before: Option<(Tensor, f64)> = None;
        for (sigma, next) in steps(sigmas) {
            let denoised = sampling.begin_step(&x, sigma)?;
            let h = (sigma / next).ln();
            let extrapolated = match &before {
                Some((old, h_last)) if next > 0.0 => {
                    let share = h / (2.0 * h_last);
                    combine(1.0 + share, &denoised, -share, old)?
                }
                _ => denoised.clone(),
            };
            x = combine(next / sigma, &x, -(-h).exp_m1(), &extrapolated)?;
            before = Some((denoised, h));
        }
        Ok(x)
    }
}
