//! The samplers step by step against k-diffusion, on the fixture that tests/fixtures/samplers/make.py made.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use elucidate_samplers::{Churn, Sampler};
use elucidate_schedules::karras_sigmas;
use mixture::Mixture;
use serde::Deserialize;
use std::path::Path;
use steps::step_by_step;

#[path = "common/mixture.rs"]
mod mixture;
#[path = "common/steps.rs"]
mod steps;

type Images = Vec<Vec<f64>>;

/// One run of k-diffusion in f64.
#[derive(Deserialize)]
struct Case {
    setting: Setting,
    steps: usize,
    rho: f64,
    sigma_min: f64,
    sigma_max: f64,
    mean: f64,
    std: f64,
    sigmas: Vec<f64>,
    noise: Vec<Images>,
    states: Vec<Images>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(tag = "sampler", rename_all = "snake_case")]
enum Setting {
    Euler,
    EulerAncestral { eta: f64 },
    Heun { s_churn: f64 },
    Lms { order: usize },
}

impl Setting {
    fn sampler(self) -> Sampler {
        match self {
            Self::Euler => Sampler::Euler,
            Self::EulerAncestral { eta } => Sampler::EulerAncestral { eta },
            Self::Heun { s_churn } => Sampler::Heun { churn: Churn { s_churn, ..Churn::default() } },
            Self::Lms { order } => Sampler::Lms { order },
        }
    }
}

fn cases() -> Result<Vec<Case>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/samplers/k_diffusion.json");
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

/// The largest difference over all steps, each relative to the step's largest value.
fn largest_relative_difference(case: &Case, dtype: DType) -> Result<f64> {
    let tensor = |images: &Images| Tensor::new(images.clone(), &Device::Cpu)?.to_dtype(dtype);
    let noise = |k: usize, _: &Tensor| match case.noise.get(k) {
        Some(noise) => tensor(noise),
        None => candle_core::bail!("k-diffusion asked for {} noises, we for more", case.noise.len()),
    };
    let data = Mixture { mean: case.mean, std: case.std };
    let x = tensor(&case.states[0])?;
    let (states, asked) = step_by_step(case.setting.sampler(), &data, &x, &case.sigmas, &noise)?;
    assert_eq!(asked, case.noise.len(), "{:?}", case.setting);
    assert_eq!(states.len(), case.states.len(), "{:?}", case.setting);
    let mut largest = 0f64;
    for (ours, theirs) in states.iter().zip(&case.states) {
        let ours = ours.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let theirs = theirs.concat();
        assert!(ours.iter().all(|value| value.is_finite()), "{:?}", case.setting);
        let scale = theirs.iter().fold(0f64, |scale, value| scale.max(value.abs()));
        let off = ours.iter().zip(&theirs).fold(0f64, |off, (a, b)| off.max((a - b).abs()));
        largest = largest.max(off / scale);
    }
    Ok(largest)
}

#[test]
fn every_step_agrees_with_k_diffusion() -> Result<()> {
    for case in cases()? {
        let name = format!("{:?} {} steps, rho {}", case.setting, case.steps, case.rho);
        for (dtype, bound) in [(DType::F64, 1e-5), (DType::F32, 1e-3)] {
            let off = largest_relative_difference(&case, dtype).with_context(|| name.clone())?;
            println!("{name} in {dtype:?}: {off:.1e}");
            assert!(off <= bound, "{name} differs by {off:.1e} in {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn the_sigma_steps_agree_with_k_diffusion() -> Result<()> {
    for case in cases()? {
        let sigmas = karras_sigmas(case.steps, case.sigma_min, case.sigma_max, case.rho)?;
        assert_eq!(sigmas.len(), case.sigmas.len());
        for (ours, theirs) in sigmas.iter().zip(&case.sigmas) {
            assert!((ours - theirs).abs() <= 1e-12 * theirs, "{ours} is not {theirs}");
        }
    }
    Ok(())
}
