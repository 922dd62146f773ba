//! DPM-Solver++(2M) on the SDE.

use crate::options::options;
use crate::sampling::{Sampling, combine, steps};
use crate::{Domain, Sample};
use candle_core::{Result, Tensor};

options! {
    /// DPM-Solver++(2M) on the SDE (Lu 2022b, section 3.4; k-diffusion's `sample_dpmpp_2m_sde`). One evaluation a step.
    pub struct Dpmpp2mSde {
        fresh_noise;
        /// How the slope of D enters
        solver_type: SolverType = SolverType::Midpoint, Domain::Names(&["midpoint", "heun"]);
    }
}

/// How the slope of D enters a step of [`Dpmpp2mSde`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolverType {
    /// With the factor ½(1 − e^−h).
    Midpoint,
    /// With the factor 1 − (1 − e^−h)/h.
    Heun,
}

impl Sample for Dpmpp2mSde {
    fn is_sde(&self) -> bool {
        true
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let Self { eta, s_noise, solver_type } = *self;
        // D and h = λ′ − λ of the step before, λ = −ln σ.
        let mut before: Option<(Tensor, f64)> = None;
        for (sigma, next) in steps(sigmas) {
            let denoised = sampling.begin_step(&x, sigma)?;
            if next == 0.0 {
                x = denoised;
                continue;
            }
            let h = (sigma / next).ln();
            let h_eta = h * (1.0 + eta);
            let part = -(-h_eta).exp_m1();
            x = combine(next / sigma * (-eta * h).exp(), &x, part, &denoised)?;
            if let Some((old, h_last)) = &before {
                let slope = ((&denoised - old)? * (h / h_last))?;
                let factor = match solver_type {
                    SolverType::Midpoint => part / 2.0,
                    SolverType::Heun => 1.0 - part / h_eta,
                };
                x = (x + (slope * factor)?)?;
            }
            let std = s_noise * next * (-(-2.0 * eta * h).exp_m1()).sqrt();
            x = sampling.add_noise(x, std, sigma, next)?;
            before = Some((denoised, h));
        }
        Ok(x)
    }
}
