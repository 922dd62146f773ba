//! DDIM in σ coordinates against the lesson's form in ᾱ, and against Euler's ancestral method.

use candle_core::{Device, Result, Tensor};
use elucidate_samplers::{Ddim, Euler, EulerAncestral, Preconditioned, Sampler, Setting};
use elucidate_schedules::Preconditioning;

const STEPS: usize = 20;

/// ε̂ of the exact denoiser for pixels N(0.1, 0.3²) of \[−½,½\] at time t of the cosine schedule, each pixel by itself.
fn exact_eps(x: &Tensor, t: f64) -> Result<Tensor> {
    let (mean, std) = (0.1, 0.3f64);
    let alpha_bar = (std::f64::consts::PI * t / 2.0).cos().powi(2);
    let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
    let total = (signal * std).powi(2) + noise.powi(2);
    (x - signal * mean)? * (noise / total)
}

/// Standard normal numbers, always the same.
fn start() -> Result<Tensor> {
    Tensor::new(&[[0.5f64, -1.0, 2.0], [0.1, 1.5, -0.3], [0.0, -2.0, 0.7]], &Device::Cpu)
}

fn noise(k: usize) -> Result<Tensor> {
    (start()? * ((k as f64 * 0.7).sin() * 1.3))? + 0.1
}

/// The lesson's DDIM (LESSON.md, 22_cosine), on pixels of \[−½,½\], as it is written there.
fn in_alpha_bar(eta: f64, clamp: f64, floor: f64) -> Result<Vec<f64>> {
    let alpha_bar = |t: f64| (std::f64::consts::PI * t / 2.0).cos().powi(2);
    let (mut x, mut x0, mut asked) = (start()?, start()?, 0);
    for i in (0..STEPS).rev() {
        let t = i as f64 / STEPS as f64;
        let a = alpha_bar(t);
        let next = if i == 0 { 1.0 } else { alpha_bar((i - 1) as f64 / STEPS as f64) };
        let eps = exact_eps(&x, t)?;
        let mut sigma = eta * ((1.0 - next) / (1.0 - a)).sqrt() * (1.0 - a / next).sqrt();
        if sigma.is_nan() || 1.0 - next <= sigma * sigma + floor {
            sigma = 0.0;
        }
        x0 = (((&x - (&eps * (1.0 - a).sqrt())?)? / a.sqrt())?).clamp(-clamp, clamp)?;
        x = ((&x0 * next.sqrt())? + (eps * (1.0 - next - sigma * sigma).max(0.0).sqrt())?)?;
        if sigma > 0.0 {
            x = (x + (noise(asked)? * sigma)?)?;
            asked += 1;
        }
    }
    (x0 * 2.0)?.flatten_all()?.to_vec1()
}

fn sampled(sampler: Sampler) -> Result<(Vec<f64>, usize)> {
    let model = Preconditioning::lesson_eps(true);
    let network = |x: &Tensor, t: &Tensor| exact_eps(x, t.to_vec1::<f64>()?[0]);
    let denoiser = Preconditioned { network, preconditioning: model, dtype: candle_core::DType::F64 };
    let setting = Setting::parse(&format!("ddim steps={STEPS} spacing=ddim"), &model).expect("a setting");
    let sigmas = setting.sigmas(&model).expect("steps that fall");
    let x = (start()? * setting.sampler.start_std(sigmas[0]))?;
    let mut asked = 0;
    let mut noise = |_: &Tensor, _: f64, _: f64| {
        asked += 1;
        noise(asked - 1)
    };
    let sampled = sampler.sample(&denoiser, &x, &sigmas, &mut noise, &mut |_| Ok(()))?;
    Ok((sampled.images.flatten_all()?.to_vec1()?, sampled.nfe))
}

fn close(a: &[f64], b: &[f64]) {
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(difference < 1e-12, "{difference}: {a:?} {b:?}");
}

#[test]
fn it_is_the_lessons() -> Result<()> {
    for eta in [1.0, 0.5, 0.0] {
        // A clamp that bites: pixels reach 0.1 ± 0.9 here. Each floor changes which steps take noise.
        for (clamp, floor) in [(f64::INFINITY, 0.0), (0.4, 0.0), (1.5, 0.01), (0.4, 0.2)] {
            let ours = Ddim { eta, clamp: 2.0 * clamp, floor, scale: 0.5 };
            let (found, nfe) = sampled(ours.into())?;
            close(&found, &in_alpha_bar(eta, clamp, floor)?);
            // The lesson's last step begins and ends at ᾱ = 1, which σ steps have once.
            assert_eq!(nfe, STEPS - 1);
        }
    }
    Ok(())
}

#[test]
fn it_begins_with_the_noise_of_the_model() {
    let model = Preconditioning::lesson_eps(true);
    let begins = |text: &str| Setting::parse(text, &model).expect("a setting").sampler.start_std(3.0);
    // x_t = √ᾱ·(x₀ + bσ·n) is N(0, 1) where it begins: in pixels of [−1,1] and over √ᾱ·b that is √(1/b² + σ²).
    assert_eq!(begins("ddim"), 2f64.hypot(3.0));
    assert_eq!(begins("ddim scale=1"), 1f64.hypot(3.0));
    assert_eq!(begins("euler_ancestral"), 3.0);
}

#[test]
fn clamp_and_floor_matter() -> Result<()> {
    let plain = in_alpha_bar(1.0, f64::INFINITY, 0.0)?;
    assert_ne!(plain, in_alpha_bar(1.0, 0.4, 0.0)?);
    assert_ne!(plain, in_alpha_bar(1.0, f64::INFINITY, 0.2)?);
    Ok(())
}

#[test]
fn without_clamp_and_floor_its_steps_are_those_of_euler_ancestral() -> Result<()> {
    for eta in [0.0, 0.3, 1.0] {
        let (ddim, _) = sampled(Ddim { eta, ..Ddim::default() }.into())?;
        let (ancestral, _) = sampled(EulerAncestral { eta, ..EulerAncestral::default() }.into())?;
        close(&ddim, &ancestral);
    }
    let (ddim, _) = sampled(Ddim { eta: 0.0, ..Ddim::default() }.into())?;
    close(&ddim, &sampled(Euler::default().into())?.0);
    Ok(())
}
