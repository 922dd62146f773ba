//! The samplers on data whose denoiser has a closed form, in f64: they converge to the exact solution of the
//! probability-flow ODE at their order, and stochastic ones keep the data's variance.

use candle_core::{DType, Device, Result, Tensor};
use elucidate_samplers::{Churn, Sampler};
use elucidate_schedules::karras_sigmas;
use mixture::Mixture;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use std::cell::RefCell;

#[path = "common/mixture.rs"]
mod mixture;

impl Mixture {
    /// P(y + σn < x).
    fn cdf(&self, x: f64, sigma: f64) -> f64 {
        let total = self.std.hypot(sigma);
        let normal = |z: f64| statrs::function::erf::erfc(-z / 2f64.sqrt()) / 2.0;
        (normal((x - self.mean) / total) + normal((x + self.mean) / total)) / 2.0
    }

    /// Where the probability-flow ODE takes `x` from noise level `from` to `to`: in one dimension it keeps quantiles.
    fn solution(&self, x: f64, from: f64, to: f64) -> f64 {
        let quantile = self.cdf(x, from);
        let (mut low, mut high) =
            (-self.mean - 40.0 * self.std.hypot(to), self.mean + 40.0 * self.std.hypot(to));
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if self.cdf(middle, to) < quantile { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    }
}

const FROM: f64 = 80.0;
const TO: f64 = 0.1;

fn no_noise(_: &Tensor) -> Result<Tensor> {
    candle_core::bail!("a deterministic sampler asks for noise")
}

/// The largest error of `sampler` in `steps` steps from σ = 80 to 0.1, over starts across the data.
fn error(sampler: Sampler, data: Mixture, steps: usize) -> Result<f64> {
    let starts = [-100.0, -40.0, -3.0, 10.0, 75.0, 120.0];
    let mut sigmas = karras_sigmas(steps + 1, TO, FROM, 7.0).expect("steps that are possible");
    sigmas.pop();
    let x = Tensor::new(&starts, &Device::Cpu)?;
    let ends = sampler.sample(&data, &x, &sigmas, &mut no_noise)?.to_vec1::<f64>()?;
    let errors = starts.iter().zip(ends).map(|(&start, end)| (end - data.solution(start, FROM, TO)).abs());
    Ok(errors.fold(0.0, f64::max))
}

/// The order of convergence: minus the slope of the least-squares line through ln error over ln steps.
fn fitted_order(sampler: Sampler, data: Mixture, steps: &[usize]) -> Result<f64> {
    let points: Vec<(f64, f64)> =
        steps.iter().map(|&n| Ok(((n as f64).ln(), error(sampler, data, n)?.ln()))).collect::<Result<_>>()?;
    let n = points.len() as f64;
    let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let covariance: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    Ok(-covariance / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>())
}

#[test]
fn deterministic_samplers_converge_at_their_order() -> Result<()> {
    let heun = Sampler::Heun { churn: Churn::default() };
    let steps = [64, 128, 256, 512, 1024];
    for data in [Mixture { mean: 0.0, std: 0.5 }, Mixture { mean: 0.5, std: 0.25 }] {
        for (sampler, order) in [
            (Sampler::Euler, 1.0),
            (heun, 2.0),
            (Sampler::Lms { order: 2 }, 2.0),
            (Sampler::Lms { order: 3 }, 3.0),
            (Sampler::Lms { order: 4 }, 4.0),
        ] {
            let fitted = fitted_order(sampler, data, &steps)?;
            println!("{data:?} {sampler:?}: order {fitted:.3}, error {:.1e}", error(sampler, data, 1024)?);
            assert!((fitted - order).abs() < 0.2, "{sampler:?} on {data:?} converges at order {fitted:.2}");
        }
    }
    Ok(())
}

#[test]
fn the_first_order_multistep_method_is_eulers() -> Result<()> {
    let data = Mixture { mean: 0.5, std: 0.25 };
    let sigmas = karras_sigmas(20, 0.01, 80.0, 7.0).expect("steps that are possible");
    let x = (normal(50, 1)? * 80.0)?;
    let euler = Sampler::Euler.sample(&data, &x, &sigmas, &mut no_noise)?;
    let lms = Sampler::Lms { order: 1 }.sample(&data, &x, &sigmas, &mut no_noise)?;
    let largest = (euler - lms)?.abs()?.max(0)?.to_scalar::<f64>()?;
    assert!(largest < 1e-12, "they differ by {largest}");
    Ok(())
}

fn normal(n: usize, seed: u64) -> Result<Tensor> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..n).map(|_| StandardNormal.sample(&mut rng)).collect();
    Tensor::from_vec(values, n, &Device::Cpu)
}

#[test]
fn stochastic_samplers_keep_the_datas_variance() -> Result<()> {
    let data = Mixture { mean: 0.0, std: 0.5 };
    let n = 20_000;
    // Ancestral steps are of order 1: with 200 of them and η = 1 the variance is still 7 % short.
    let sigmas = karras_sigmas(1000, 0.002, 80.0, 7.0).expect("steps that are possible");
    let churned = Churn { s_churn: 40.0, ..Churn::default() };
    for sampler in [
        Sampler::EulerAncestral { eta: 0.5 },
        Sampler::EulerAncestral { eta: 1.0 },
        Sampler::Heun { churn: churned },
    ] {
        let mut seed = 0;
        let mut noise = |like: &Tensor| {
            seed += 1;
            normal(like.elem_count(), seed)
        };
        let x = (noise(&Tensor::zeros(n, DType::F64, &Device::Cpu)?)? * 80.0)?;
        let samples = sampler.sample(&data, &x, &sigmas, &mut noise)?.to_vec1::<f64>()?;
        let variance = samples.iter().map(|s| s * s).sum::<f64>() / n as f64;
        // Four standard errors of a variance, and 2 % for the steps' own error.
        let bound = 0.25 * (4.0 * (2.0 / n as f64).sqrt() + 0.02);
        assert!(
            (variance - 0.25).abs() < bound,
            "{sampler:?} leaves variance {variance:.4}, the data has 0.25"
        );
    }
    Ok(())
}

#[test]
fn churn_evaluates_and_steps_from_sigma_hat() -> Result<()> {
    let seen = RefCell::new(vec![]);
    let zero = |x: &Tensor, sigma: &Tensor| {
        seen.borrow_mut().push(sigma.to_vec1::<f64>()?[0]);
        x.zeros_like()
    };
    let churn = Churn { s_churn: 0.4, ..Churn::default() };
    let x = Tensor::new(&[2.0f64], &Device::Cpu)?;
    let end = Sampler::Heun { churn }.sample(&zero, &x, &[2.0, 1.0, 0.5], &mut Tensor::zeros_like)?;
    // γ = 0.4/2: σ̂ is 2.4 and then 1.2. With D = 0 the ODE's solution is x·σ/σ₀, which Heun's method hits exactly.
    let expected = [2.4, 1.0, 1.2, 0.5];
    let seen = seen.into_inner();
    assert!(seen.iter().zip(expected).all(|(s, e)| (s - e).abs() < 1e-12), "evaluated at {seen:?}");
    let expected = 2.0 / 2.4 * 1.0 / 1.2 * 0.5;
    assert!((end.to_vec1::<f64>()?[0] - expected).abs() < 1e-12);
    Ok(())
}

#[test]
fn evaluations_are_as_many_as_stated() -> Result<()> {
    let samplers = [
        Sampler::Euler,
        Sampler::EulerAncestral { eta: 1.0 },
        Sampler::Heun { churn: Churn { s_churn: 1.0, ..Churn::default() } },
        Sampler::Lms { order: 4 },
    ];
    for sampler in samplers {
        let calls = RefCell::new(0);
        let denoiser = |x: &Tensor, _: &Tensor| {
            *calls.borrow_mut() += 1;
            x.zeros_like()
        };
        let sigmas = karras_sigmas(7, 0.01, 80.0, 7.0).expect("steps that are possible");
        let x = Tensor::zeros((2, 1, 2, 2), DType::F32, &Device::Cpu)?;
        let end = sampler.sample(&denoiser, &x, &sigmas, &mut Tensor::zeros_like)?;
        assert_eq!(end.dims(), [2, 1, 2, 2]);
        assert_eq!(calls.into_inner(), sampler.nfe(7), "{}", sampler.name());
    }
    Ok(())
}

#[test]
fn impossible_options_are_refused() -> Result<()> {
    let x = Tensor::zeros(3, DType::F64, &Device::Cpu)?;
    let data = Mixture { mean: 0.0, std: 1.0 };
    let good = [2.0, 1.0, 0.0];
    for sampler in [
        Sampler::EulerAncestral { eta: -0.1 },
        Sampler::EulerAncestral { eta: f64::NAN },
        Sampler::Lms { order: 0 },
        Sampler::Lms { order: 5 },
        Sampler::Heun { churn: Churn { s_churn: -1.0, ..Churn::default() } },
    ] {
        assert!(sampler.sample(&data, &x, &good, &mut Tensor::zeros_like).is_err(), "{sampler:?}");
    }
    for sigmas in
        [&[1.0][..], &[1.0, 1.0], &[1.0, 2.0], &[1.0, -1.0], &[f64::NAN, 0.0], &[f64::INFINITY, 1.0]]
    {
        assert!(Sampler::Euler.sample(&data, &x, sigmas, &mut no_noise).is_err(), "{sigmas:?}");
    }
    Ok(())
}
