//! DPM-Solver with steps of the size that its error asks for.

use crate::dpm_solver::{DpmStep, down, sigma_of};
use crate::options::options;
use crate::sampling::{Sampling, slope};
use crate::{Domain, Levels, Sample};
use candle_core::{DType, Result, Tensor, bail};

options! {
    /// DPM-Solver-12 or -23 (Lu 2022a, appendix C) with a PID step-size controller (k-diffusion's `sample_dpm_adaptive`), from σ_max to
    /// σ_min, where it ends. A step that is rejected costs evaluations too. Its error is a norm over all images given
    /// together, so a sample depends on those beside it.
    pub struct DpmAdaptive {
        /// Order of the step that is taken; the one that it is held against is one lower
        order: usize = 3, Domain::Whole(2, 3);
        /// Relative tolerance
        rtol: f64 = 0.05, Domain::Number(1e-12, 1e3);
        /// Absolute tolerance
        atol: f64 = 0.0078, Domain::Number(1e-12, 1e3);
        /// The first step, in ln σ
        h_init: f64 = 0.05, Domain::Number(1e-3, 10.0);
        /// The controller's proportional part
        pcoeff: f64 = 0.0, Domain::Number(0.0, 10.0);
        /// Its integral part
        icoeff: f64 = 1.0, Domain::Number(0.0, 10.0);
        /// Its derivative part
        dcoeff: f64 = 0.0, Domain::Number(0.0, 10.0);
        /// A step is taken where the next may be this many times as large
        accept_safety: f64 = 0.81, Domain::Number(0.0, 1.0);
        /// How much fresh noise a step takes: 0 (none) to 1
        eta: f64 = 0.0, Domain::Number(0.0, 1.0);
        /// Standard deviation of the fresh noise, beside what eta says
        s_noise: f64 = 1.0, Domain::Number(0.0, 1e3);
    }
}

/// More are not taken: tolerances below the rounding of x would never be met.
const MOST_TRIES: usize = 2000;

/// A PID controller of the step size (Söderlind 2003).
struct Pid {
    h: f64,
    exponents: [f64; 3],
    accept_safety: f64,
    /// Inverses of the last errors, the newest first.
    inverses: Option<[f64; 3]>,
}

impl Pid {
    fn new(options: &DpmAdaptive) -> Self {
        let DpmAdaptive { order, pcoeff: p, icoeff: i, dcoeff: d, eta, accept_safety, h_init, .. } = *options;
        let order = if eta > 0.0 { 1.5 } else { order as f64 };
        let exponents = [(p + i + d) / order, -(p + 2.0 * d) / order, d / order];
        Self { h: h_init, exponents, accept_safety, inverses: None }
    }

    /// Whether a step of this error is taken; the size of the next one follows from it.
    fn accepts(&mut self, error: f64) -> bool {
        let inverse = 1.0 / (error + 1e-8);
        let inverses = self.inverses.get_or_insert([inverse; 3]);
        inverses[0] = inverse;
        let product: f64 = inverses.iter().zip(self.exponents).map(|(e, power)| e.powf(power)).product();
        let factor = 1.0 + (product - 1.0).atan();
        let accepts = factor >= self.accept_safety;
        if accepts {
            *inverses = [inverses[0], inverses[0], inverses[1]];
        }
        self.h *= factor;
        accepts
    }
}

impl Sample for DpmAdaptive {
    fn levels(&self) -> Levels {
        Levels::Range
    }

    fn looks_across_images(&self) -> bool {
        true
    }

    fn nfe(&self, _: usize) -> Option<usize> {
        None
    }

    fn sample(&self, sampling: &mut Sampling, mut x: Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let (mut lambda, end) = (-sigmas[0].ln(), -sigmas[1].ln());
        let mut previous = x.clone();
        let mut pid = Pid::new(self);
        let mut tries = 0;
        while lambda < end - 1e-5 {
            tries += 1;
            if tries > MOST_TRIES {
                bail!(
                    "dpm_adaptive is at sigma {:.4} after {MOST_TRIES} steps, taken and rejected: give a larger rtol or atol than \
                     {} and {}",
                    sigma_of(lambda),
                    self.rtol,
                    self.atol
                );
            }
            let next = end.min(lambda + pid.h);
            let (lambda_down, sigma_up) = down(lambda, next, end, self.eta);
            let denoised = sampling.begin_step(&x, sigma_of(lambda))?;
            let eps = slope(&x, &denoised, sigma_of(lambda))?;
            let step = DpmStep { x: &x, eps: &eps, lambda };
            let (low, high) = match self.order {
                2 => {
                    let inner = step.look(sampling, lambda_down, 0.5)?;
                    (step.order_1(lambda_down)?, step.order_2(lambda_down, &inner)?)
                }
                _ => {
                    let inner = step.look(sampling, lambda_down, 1.0 / 3.0)?;
                    (step.order_2(lambda_down, &inner)?, step.order_3(sampling, lambda_down, &inner)?)
                }
            };
            if pid.accepts(self.error(&low, &high, &previous)?) {
                previous = low;
                x = sampling.add_noise(high, self.s_noise * sigma_up, sigma_of(lambda), sigma_of(next))?;
                lambda = next;
            }
        }
        Ok(x)
    }
}

impl DpmAdaptive {
    /// The root mean square of |low − high| over the tolerance max(atol, rtol·max(|low|, |previous|)).
    fn error(&self, low: &Tensor, high: &Tensor, previous: &Tensor) -> Result<f64> {
        let size = low.abs()?.maximum(&previous.abs()?)?;
        let tolerance = (size * self.rtol)?.maximum(self.atol)?;
        let error = ((low - high)? / tolerance)?.to_dtype(DType::F64)?;
        error.sqr()?.mean_all()?.sqrt()?.to_scalar()
    }
}
