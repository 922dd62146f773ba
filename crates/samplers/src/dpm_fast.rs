//! DPM-Solver-fast.

use crate::dpm_solver::{DpmStep, down, sigma_of};
use crate::options::options;
use crate::sampling::{Sampling, slope};
use crate::{Domain, Levels, Sample};
use candle_core::{Result, Tensor};

options! {
    /// DPM-Solver-fast (Lu 2022a, section 3.4; k-diffusion's `sample_dpm_fast`): steps even in ln σ from σ_max to σ_min, where it ends,
    /// of order 3 and at last 2 and 1, as many as `nfe` evaluations make.
    pub struct DpmFast {
        /// Network evaluations for each sample
        nfe: usize = 20, Domain::Whole(1, 1_000_000);
        /// How much fresh noise a step takes: 0 (none) to 1
        eta: f64 = 0.0, Domain::Number(0.0, 1.0);
        /// Standard deviation of the fresh noise, beside what eta says
        s_noise: f64 = 1.0, Domain::Number(0.0, 1e3);
    }
}

impl DpmFast {
    fn orders(&self) -> Vec<usize> {
        let m = self.nfe / 3 + 1;
        match self.nfe % 3 {
            0 => [vec![3; m - 2], vec![2, 1]].concat(),
            rest => [vec![3; m - 1], vec![rest]].concat(),
        }
    }
}

impl Sample for DpmFast {
    fn levels(&self) -> Levels {
        Levels::Range
    }

    fn nfe(&self, _: usize) -> Option<usize> {
        Some(self.nfe)
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let (from, end) = (-sigmas[0].ln(), -sigmas[1].ln());
        let orders = self.orders();
        for (i, &order) in orders.iter().enumerate() {
            let at = |i: usize| match i == orders.len() {
                true => end,
                false => from + (end - from) * i as f64 / orders.len() as f64,
            };
            let (lambda, next) = (at(i), at(i + 1));
            let (lambda_down, sigma_up) = down(lambda, next, end, self.eta);
            let denoised = sampling.begin_step(&x, sigma_of(lambda))?;
            let eps = slope(&x, &denoised, sigma_of(lambda))?;
            let step = DpmStep { x: &x, eps: &eps, lambda };
            let to = match order {
                1 => step.order_1(lambda_down)?,
                2 => {
                    let inner = step.look(sampling, lambda_down, 0.5)?;
                    step.order_2(lambda_down, &inner)?
                }
                _ => {
                    let inner = step.look(sampling, lambda_down, 1.0 / 3.0)?;
                    step.order_3(sampling, lambda_down, &inner)?
                }
            };
            x = sampling.add_noise(to, self.s_noise * sigma_up, sigma_of(lambda), sigma_of(next))?;
        }
        Ok(x)
    }
}
