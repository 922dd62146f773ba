//! The lesson's DDIM against Euler's method, and what estimates of the noise level change.

use candle_core::{DType, Device, Result, Tensor};
use elucidate_samplers::{Ddim, DdimStep, EpsDenoiser, Estimates, Estimator, Noise, SigmaRule, ddim, euler};
use elucidate_schedules::cosine::{alpha_bar, ddim_alpha_bars, ddim_sigma, sigma};

const STEPS: usize = 20;
const DETERMINISTIC: Ddim = Ddim { eta: 0.0, x0_clamp: f64::INFINITY };

/// ε̂ of the exact denoiser for pixels N(0.1, 0.3²) at time t, each pixel by itself.
fn exact_eps(x: &Tensor, t: f64) -> Result<Tensor> {
    let (mean, std) = (0.1, 0.3f64);
    let (signal, noise) = (alpha_bar(t).sqrt(), (1.0 - alpha_bar(t)).sqrt());
    let total = (signal * std).powi(2) + noise.powi(2);
    (x - signal * mean)? * (noise / total)
}

fn start() -> Result<Tensor> {
    Tensor::new(&[[0.5f64, -1.0, 2.0], [0.1, 1.5, -0.3], [0.0, -2.0, 0.7]], &Device::Cpu)
}

fn no_noise(_: &Tensor) -> Result<Tensor> {
    candle_core::bail!("a deterministic sampler asks for noise")
}

fn run(options: Ddim, estimator: Option<(Estimator, Estimates)>, noise: Noise) -> Result<Vec<f64>> {
    ddim(exact_eps, &start()?, STEPS, options, estimator, noise, &mut |_| Ok(()))?.flatten_all()?.to_vec1()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn without_fresh_noise_and_clamp_it_is_eulers_method_through_the_adapter() -> Result<()> {
    let half = 0.5;
    let network = |x: &Tensor, t: &Tensor| exact_eps(x, t.to_vec1::<f64>()?[0]);
    let denoiser = EpsDenoiser { network, largest_pixel: half };
    // DDIM's last step begins and ends at ᾱ = 1: σ steps have it once.
    let alpha_bars = ddim_alpha_bars(STEPS);
    let sigmas: Vec<f64> = alpha_bars[..STEPS].iter().map(|&a| sigma(a) / half).collect();
    let x = (start()? * (1.0 / (alpha_bars[0].sqrt() * half)))?;
    let by_euler = (euler(&denoiser, &x, &sigmas)? * half)?.flatten_all()?.to_vec1::<f64>()?;
    let by_ddim = run(DETERMINISTIC, None, &mut no_noise)?;
    let difference = largest_difference(&by_euler, &by_ddim);
    assert!(difference < 1e-12, "{difference}: {by_euler:?} {by_ddim:?}");
    Ok(())
}

#[test]
fn estimates_that_are_the_schedules_change_nothing() -> Result<()> {
    let steps = ddim_alpha_bars(STEPS);
    let asked = std::cell::Cell::new(0);
    let estimate = |x: &Tensor| {
        asked.set(asked.get() + 1);
        Ok(vec![steps[asked.get() - 1]; x.dim(0)?])
    };
    for rule in [SigmaRule::Schedule, SigmaRule::Median, SigmaRule::Halved] {
        asked.set(0);
        let estimates = Estimates { near_median: Some(2.0), sigma: rule };
        let found = run(DETERMINISTIC, Some((&estimate, estimates)), &mut no_noise)?;
        assert_eq!(found, run(DETERMINISTIC, None, &mut no_noise)?);
    }
    Ok(())
}

#[test]
fn an_estimate_far_from_the_median_is_brought_near() -> Result<()> {
    // One step from ᾱ(½) = ½: x̂₀ of an image tells which ᾱ̂ it was made with.
    let x0 = |found: [f64; 3], near_median| -> Result<Vec<f64>> {
        let estimate = |_: &Tensor| Ok(found.to_vec());
        let estimates = Estimates { near_median, sigma: SigmaRule::Schedule };
        let mut first = vec![];
        let mut observe = |step: DdimStep| {
            if step.index == 0 {
                assert_eq!(step.estimates, found);
                first = step.x0.flatten_all()?.to_vec1::<f64>()?;
            }
            Ok(())
        };
        let x = Tensor::ones((3, 1), DType::F64, &Device::Cpu)?;
        let zero = |x: &Tensor, _: f64| x.zeros_like();
        ddim(zero, &x, 2, DETERMINISTIC, Some((&estimate, estimates)), &mut no_noise, &mut observe)?;
        Ok(first)
    };
    // x̂₀ = x_t/√ᾱ̂ where the network predicts no noise; the median is 0.4.
    let expected = |used: [f64; 3]| used.map(|a| 1.0 / a.sqrt());
    assert!(largest_difference(&x0([0.01, 0.4, 0.9], Some(2.0))?, &expected([0.2, 0.4, 0.8])) < 1e-12);
    assert!(largest_difference(&x0([0.01, 0.4, 0.9], None)?, &expected([0.01, 0.4, 0.9])) < 1e-12);
    Ok(())
}

#[test]
fn fresh_noise_has_the_rules_standard_deviation() -> Result<()> {
    // The noise that is asked for is all ones, so a step's x′ without the rest is σ itself.
    let first_sigma = |rule: Option<SigmaRule>| -> Result<f64> {
        let estimate = |x: &Tensor| Ok(vec![0.3; x.dim(0)?]);
        let mut xs = vec![];
        let mut observe = |step: DdimStep| {
            xs.push(step.x.flatten_all()?.to_vec1::<f64>()?[0]);
            Ok(())
        };
        let x = Tensor::zeros((1, 1), DType::F64, &Device::Cpu)?;
        let zero = |x: &Tensor, _: f64| x.zeros_like();
        let options = Ddim { eta: 1.0, x0_clamp: 2.0 };
        let rule = rule.map(|sigma| Estimates { near_median: Some(2.0), sigma });
        let estimator = rule.map(|rule| (&estimate as Estimator, rule));
        ddim(zero, &x, 4, options, estimator, &mut |x| x.ones_like(), &mut observe)?;
        Ok(xs[1])
    };
    let (from, to) = (alpha_bar(0.75), alpha_bar(0.5));
    let expected = ddim_sigma(from, to, 1.0);
    for (rule, expected) in [
        (None, expected),
        (Some(SigmaRule::Schedule), expected),
        (Some(SigmaRule::Halved), expected / 2.0),
        (Some(SigmaRule::Median), ddim_sigma(0.3, to, 1.0)),
    ] {
        let found = first_sigma(rule)?;
        assert!((found - expected).abs() < 1e-12, "{rule:?}: {found} is not {expected}");
    }
    Ok(())
}

#[test]
fn impossible_options_are_refused() {
    for eta in [-0.1, 1.1, f64::NAN] {
        assert!(run(Ddim { eta, x0_clamp: 2.0 }, None, &mut no_noise).is_err(), "{eta}");
    }
}
