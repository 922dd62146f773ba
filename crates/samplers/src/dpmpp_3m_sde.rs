//! DPM-Solver++(3M) on the SDE.

use crate::options::options;
use crate::sampling::{Sampling, combine, steps};
use crate::Sample;
use candle_core::{Result, Tensor};

options! {
    /// DPM-Solver++(3M) on the SDE (k-diffusion's `sample_dpmpp_3m_sde`, after Lu 2022b): multistep, from D at three noise levels. One
    /// evaluation a step.
    ///
    /// At η 0 it is of order 2, not 3: the second derivative of D is twice the divided difference, and k-diffusion, which this
    /// follows, takes it once.
    pub struct Dpmpp3mSde {
        fresh_noise;
    }
}

impl Sample for Dpmpp3mSde {
    fn is_sde(&self) -> bool {
        true
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let Self { eta, s_noise } = *self;
        // D and h = λ′ − λ, λ = −ln σ, of the steps before, the last one first.
        let mut before: Vec<(Tensor, f64)> = vec![];
        for (sigma, next) in steps(sigmas) {
            let denoised = sampling.begin_step(&x, sigma)?;
            if next == 0.0 {
                x = denoised;
                continue;
            }
            let h = (sigma / next).ln();
            let h_eta = h * (1.0 + eta);
            x = combine((-h_eta).exp(), &x, -(-h_eta).exp_m1(), &denoised)?;
            let phi_2 = (-h_eta).exp_m1() / h_eta + 1.0;
            match before.as_slice() {
                [] => {}
                [(d_1, h_1)] => x = (x + ((&denoised - d_1)? * (phi_2 * h / h_1))?)?,
                [(d_1, h_1), (d_2, h_2), ..] => {
                    // The first derivative of D, and half of the second, from divided differences.
                    let (r_0, r_1) = (h_1 / h, h_2 / h);
                    let slope_0 = ((&denoised - d_1)? / r_0)?;
                    let slope_1 = ((d_1 - d_2)? / r_1)?;
                    let change = ((&slope_0 - slope_1)? / (r_0 + r_1))?;
                    let first = (slope_0 + (&change * r_0)?)?;
                    let phi_3 = phi_2 / h_eta - 0.5;
                    x = ((x + (first * phi_2)?)? - (change * phi_3)?)?;
                }
            }
            let std = s_noise * next * (-(-2.0 * eta * h).exp_m1()).sqrt();
            x = sampling.add_noise(x, std, sigma, next)?;
            before.insert(0, (denoised, h));
            before.truncate(2);
        }
        Ok(x)
    }
}
