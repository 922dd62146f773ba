//! The samplers on data whose denoiser has a closed form, in f64: they converge to the exact solution of the
//! probability-flow ODE at their order, and stochastic ones keep the data's variance.

use candle_core::{DType, Device, Result, Tensor};
use elucidate_samplers::{Denoiser, ImageNoise, Levels, NoiseSource, Sampler, Setting};
use elucidate_schedules::{KarrasSteps, NoiseInput, NoiseSchedule, Preconditioning, SigmaSteps};
use mixture::Mixture;
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

/// A deterministic sampler asks for no noise.
fn no_noise(_: &Tensor, _: f64, _: f64) -> Result<Tensor> {
    candle_core::bail!("a deterministic sampler asks for noise")
}

fn sampler(text: &str) -> Sampler {
    let model = Preconditioning::edm(0.5, NoiseInput::Sigma);
    Setting::parse(text, &model).expect("a setting that is possible").sampler
}

fn karras(steps: usize, sigma_min: f64, sigma_max: f64) -> Vec<f64> {
    let steps = SigmaSteps::from(KarrasSteps { steps, rho: 7.0, sigma_min, sigma_max });
    steps.sigmas(&NoiseSchedule::Edm {}, 1.0).expect("steps that are possible")
}

/// `sampler` from `x` over `sigmas`.
fn sample(
    sampler: &Sampler,
    data: &dyn Denoiser,
    x: &Tensor,
    sigmas: &[f64],
    noise: &mut dyn NoiseSource,
) -> Result<Tensor> {
    Ok(sampler.sample(data, x, sigmas, noise, &mut |_| Ok(()))?.images)
}

const STARTS: [f64; 6] = [-100.0, -40.0, -3.0, 10.0, 75.0, 120.0];

/// The largest error of `sampler` in `steps` steps from σ = 80 to 0.1, over starts across the data.
fn error(text: &str, data: Mixture, steps: usize) -> Result<f64> {
    let (sampler, mut sigmas) = (sampler(text), karras(steps + 1, TO, FROM));
    sigmas.pop();
    let x = Tensor::new(&STARTS, &Device::Cpu)?;
    let ends = sample(&sampler, &data, &x, &sigmas, &mut no_noise)?.to_vec1::<f64>()?;
    let errors = STARTS.iter().zip(ends).map(|(&start, end)| (end - data.solution(start, FROM, TO)).abs());
    Ok(errors.fold(0.0, f64::max))
}

/// Minus the slope of the least-squares line through ln y over ln x.
fn fitted_order(points: &[(f64, f64)]) -> f64 {
    let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = points.len() as f64;
    let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let covariance: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    -covariance / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

#[test]
fn deterministic_samplers_converge_at_their_order() -> Result<()> {
    for data in [Mixture { mean: 0.0, std: 0.5 }, Mixture { mean: 0.5, std: 0.25 }] {
        for (text, order) in [
            ("euler", 1.0),
            ("ddim eta=0", 1.0),
            ("euler_ancestral eta=0", 1.0),
            ("heun", 2.0),
            ("dpm_2", 2.0),
            ("dpm_2_ancestral eta=0", 2.0),
            ("dpmpp_2s_ancestral eta=0", 2.0),
            ("dpmpp_sde eta=0", 2.0),
            ("dpmpp_2m", 2.0),
            ("dpmpp_2m_sde eta=0", 2.0),
            ("dpmpp_2m_sde eta=0 solver_type=heun", 2.0),
            // Its first step, of order 1, caps the whole.
            ("dpmpp_3m_sde eta=0", 2.0),
            ("lms order=1", 1.0),
            ("lms order=2", 2.0),
            ("lms order=3", 3.0),
            ("lms order=4", 4.0),
        ] {
            let point = |&n: &usize| Ok((n as f64, error(text, data, n)?));
            let points: Vec<_> = [64, 128, 256, 512, 1024].iter().map(point).collect::<Result<_>>()?;
            let fitted = fitted_order(&points);
            println!("{data:?} {text}: order {fitted:.3}, error {:.1e}", points[4].1);
            assert!((fitted - order).abs() < 0.25, "{text} on {data:?} converges at order {fitted:.2}");
        }
    }
    Ok(())
}

/// Multistep methods have their order from exact starting values: here the first three steps are so small, 1/n of the others, that
/// the errors of their lower orders are no larger than those of the rest.
#[test]
fn multistep_methods_have_their_order_from_exact_starting_values() -> Result<()> {
    let data = Mixture { mean: 0.5, std: 0.25 };
    let error = |text: &str, n: usize| -> Result<f64> {
        let step = (TO / FROM).ln() / n as f64;
        let starts = (0..3).map(|i| step * f64::from(i) / n as f64);
        let all = starts.chain((1..=n).map(|i| step * i as f64));
        let sigmas: Vec<f64> = all.map(|ln| FROM * ln.exp()).collect();
        let x = Tensor::new(&STARTS, &Device::Cpu)?;
        let ends = sample(&sampler(text), &data, &x, &sigmas, &mut no_noise)?.to_vec1::<f64>()?;
        let errors = STARTS.iter().zip(ends).map(|(&x, end)| (end - data.solution(x, FROM, TO)).abs());
        Ok(errors.fold(0.0, f64::max))
    };
    for (text, order) in [
        ("dpmpp_2m", 2.0),
        ("dpmpp_2m_sde eta=0", 2.0),
        // k-diffusion has half of the term that order 3 needs.
        ("dpmpp_3m_sde eta=0", 2.0),
        ("lms order=2", 2.0),
        ("lms order=3", 3.0),
        ("lms order=4", 4.0),
    ] {
        let point = |&n: &usize| Ok((n as f64, error(text, n)?));
        let points: Vec<_> = [128, 256, 512, 1024].iter().map(point).collect::<Result<_>>()?;
        let fitted = fitted_order(&points);
        println!("{text}: order {fitted:.3}, error {:.1e}", points[3].1);
        assert!((fitted - order).abs() < 0.25, "{text} converges at order {fitted:.2}");
    }
    Ok(())
}

#[test]
fn dpm_adaptive_gives_up_where_its_tolerance_cannot_be_met() -> Result<()> {
    // A model whose answers do not settle as steps shrink, as those of half precision do not.
    let calls = RefCell::new(0);
    let unsteady = |x: &Tensor, _: &[f64]| {
        *calls.borrow_mut() += 1;
        x.zeros_like()? + f64::from(*calls.borrow() % 3)
    };
    let x = Tensor::new(&STARTS, &Device::Cpu)?;
    let sampler = sampler("dpm_adaptive rtol=1e-12 atol=1e-12");
    let error = sample(&sampler, &unsteady, &x, &[FROM, TO], &mut no_noise).unwrap_err().to_string();
    assert!(error.contains("give a larger rtol or atol"), "{error}");
    Ok(())
}

#[test]
fn dpm_fast_converges_at_order_three_and_dpm_adaptive_keeps_its_tolerance() -> Result<()> {
    let data = Mixture { mean: 0.0, std: 0.5 };
    let x = Tensor::new(&STARTS, &Device::Cpu)?;
    let error = |text: &str| -> Result<f64> {
        let ends = sample(&sampler(text), &data, &x, &[FROM, TO], &mut no_noise)?.to_vec1::<f64>()?;
        let errors =
            STARTS.iter().zip(ends).map(|(&start, end)| (end - data.solution(start, FROM, TO)).abs());
        Ok(errors.fold(0.0, f64::max))
    };
    // Its last steps are of order 2 and 1 where 3 divides nfe; of order 2 alone where the rest is 2; their error is of one step.
    let point = |&n: &usize| Ok((n as f64, error(&format!("dpm_fast nfe={n}"))?));
    let points: Vec<_> = [95, 191, 383].iter().map(point).collect::<Result<_>>()?;
    assert!((fitted_order(&points) - 3.0).abs() < 0.3, "order {}", fitted_order(&points));
    for order in [2, 3] {
        let errors: Vec<f64> = [1e-2, 1e-3, 1e-4]
            .iter()
            .map(|tol| error(&format!("dpm_adaptive order={order} rtol={tol} atol={tol}")))
            .collect::<Result<_>>()?;
        assert!(
            errors[2] < 1e-2 && errors[2] < errors[1] && errors[1] < errors[0],
            "order {order}: {errors:?}"
        );
    }
    Ok(())
}

#[test]
fn the_first_order_multistep_method_is_eulers() -> Result<()> {
    let data = Mixture { mean: 0.5, std: 0.25 };
    let sigmas = karras(20, 0.01, 80.0);
    let x = (normal(50, 1)? * 80.0)?;
    let euler = sample(&sampler("euler"), &data, &x, &sigmas, &mut no_noise)?;
    let lms = sample(&sampler("lms order=1"), &data, &x, &sigmas, &mut no_noise)?;
    let largest = (euler - lms)?.abs()?.max(0)?.to_scalar::<f64>()?;
    assert!(largest < 1e-12, "they differ by {largest}");
    Ok(())
}

fn normal(n: usize, seed: u64) -> Result<Tensor> {
    let like = Tensor::zeros(n, DType::F64, &Device::Cpu)?;
    ImageNoise::seeded(seed, 0..n as u64).noise(&like, 0.0, 0.0)
}

#[test]
fn stochastic_samplers_keep_the_datas_variance() -> Result<()> {
    let data = Mixture { mean: 0.0, std: 0.5 };
    let n = 20_000;
    // Ancestral steps are of order 1: with 200 of them and η = 1 the variance is still 7 % short.
    for (text, steps) in [
        ("euler s_churn=40", 1000),
        ("euler_ancestral eta=0.5", 1000),
        ("euler_ancestral", 1000),
        ("ddim", 1000),
        ("heun s_churn=40", 300),
        ("dpm_2 s_churn=40", 300),
        ("dpm_2_ancestral", 300),
        ("dpmpp_2s_ancestral", 300),
        ("dpmpp_sde", 300),
        ("dpmpp_2m_sde", 300),
        ("dpmpp_2m_sde solver_type=heun", 300),
        ("dpmpp_3m_sde", 300),
    ] {
        let sampler = sampler(text);
        let sigmas = karras(steps, 0.002, 80.0);
        let x = (normal(n, 1)? * sampler.start_std(80.0))?;
        let mut noise = ImageNoise::seeded(2, 0..n as u64);
        let samples = sample(&sampler, &data, &x, &sigmas, &mut noise)?.to_vec1::<f64>()?;
        let variance = samples.iter().map(|s| s * s).sum::<f64>() / n as f64;
        // Four standard errors of a variance, and 2 % for the steps' own error.
        let bound = 0.25 * (4.0 * (2.0 / n as f64).sqrt() + 0.02);
        assert!((variance - 0.25).abs() < bound, "{text} leaves variance {variance:.4}, the data has 0.25");
    }
    Ok(())
}

#[test]
fn churn_evaluates_and_steps_from_sigma_hat() -> Result<()> {
    let seen = RefCell::new(vec![]);
    let zero = |x: &Tensor, sigma: &[f64]| {
        seen.borrow_mut().push(sigma[0]);
        x.zeros_like()
    };
    let x = Tensor::new(&[2.0f64], &Device::Cpu)?;
    let mut silent = |like: &Tensor, _: f64, _: f64| like.zeros_like();
    let end = sample(&sampler("heun s_churn=0.4"), &zero, &x, &[2.0, 1.0, 0.5], &mut silent)?;
    // γ = 0.4/2: σ̂ is 2.4 and then 1.2. With D = 0 the ODE's solution is x·σ/σ₀, which Heun's method hits exactly.
    let expected = [2.4, 1.0, 1.2, 0.5];
    let seen = seen.into_inner();
    assert!(seen.iter().zip(expected).all(|(s, e)| (s - e).abs() < 1e-12), "evaluated at {seen:?}");
    let expected = 2.0 / 2.4 * 1.0 / 1.2 * 0.5;
    assert!((end.to_vec1::<f64>()?[0] - expected).abs() < 1e-12);
    Ok(())
}

#[test]
fn evaluations_are_as_many_as_stated_and_every_step_is_told_of() -> Result<()> {
    for info in Sampler::ALL {
        let sampler = (info.default)();
        let calls = RefCell::new(0);
        let denoiser = |x: &Tensor, _: &[f64]| {
            *calls.borrow_mut() += 1;
            x * 0.5
        };
        let sigmas = match sampler.levels() {
            Levels::Steps => karras(7, 0.01, 80.0),
            Levels::Range => vec![80.0, 0.01],
        };
        let x = Tensor::ones((2, 1, 2, 2), DType::F32, &Device::Cpu)?;
        let mut told = vec![];
        let mut noise = ImageNoise::seeded(0, 0..2);
        let sampled = sampler.sample(&denoiser, &x, &sigmas, &mut noise, &mut |step| {
            assert_eq!(step.index, told.len());
            assert_eq!((step.x.dims(), step.denoised.dims()), (&[2, 1, 2, 2][..], &[2, 1, 2, 2][..]));
            told.push(step.sigma);
            Ok(())
        })?;
        assert_eq!(sampled.images.dims(), [2, 1, 2, 2]);
        assert_eq!(sampled.nfe, *calls.borrow(), "{}", info.name);
        if let Some(stated) = sampler.nfe(7) {
            assert_eq!(sampled.nfe, stated, "{}", info.name);
        }
        if sampler.levels() == Levels::Steps {
            assert_eq!(told, sigmas[..7], "{}", info.name);
        }
        // A callback ends it.
        let mut stop = |_: &elucidate_samplers::Step| candle_core::bail!("enough");
        let stopped = sampler.sample(&denoiser, &x, &sigmas, &mut noise, &mut stop);
        assert!(stopped.unwrap_err().to_string().contains("enough"), "{}", info.name);
    }
    Ok(())
}

#[test]
fn what_is_out_of_its_range_is_refused() -> Result<()> {
    use elucidate_samplers::{EulerAncestral, Heun, Lms};
    let x = Tensor::zeros(3, DType::F64, &Device::Cpu)?;
    let data = Mixture { mean: 0.0, std: 1.0 };
    let mut noise = ImageNoise::seeded(0, 0..3);
    let refused: [(Sampler, &str); 5] = [
        (EulerAncestral { eta: -0.1, ..EulerAncestral::default() }.into(), "eta=-0.1"),
        (EulerAncestral { eta: f64::NAN, ..EulerAncestral::default() }.into(), "eta=NaN"),
        (Lms { order: 0 }.into(), "order=0"),
        (Lms { order: 5 }.into(), "order=5"),
        (Heun { s_churn: -1.0, ..Heun::default() }.into(), "s_churn=-1"),
    ];
    for (sampler, what) in refused {
        let error = sample(&sampler, &data, &x, &[2.0, 1.0, 0.0], &mut noise).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    for sigmas in
        [&[1.0][..], &[1.0, 1.0], &[1.0, 2.0], &[1.0, -1.0], &[f64::NAN, 0.0], &[f64::INFINITY, 1.0]]
    {
        assert!(sample(&sampler("euler"), &data, &x, sigmas, &mut no_noise).is_err(), "{sigmas:?}");
    }
    for sigmas in [&[1.0, 0.0][..], &[2.0, 1.0, 0.5], &[1.0, 2.0]] {
        assert!(sample(&sampler("dpm_fast"), &data, &x, sigmas, &mut no_noise).is_err(), "{sigmas:?}");
    }
    Ok(())
}
