//! The samplers step by step against k-diffusion, on the fixture that tests/fixtures/samplers/make.py made.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use elucidate_samplers::{Sampler, Setting};
use elucidate_schedules::{NoiseInput, Preconditioning};
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
    setting: String,
    mean: f64,
    std: f64,
    x: Images,
    sigmas: Vec<f64>,
    noise: Vec<Images>,
    states: Vec<Images>,
}

fn cases() -> Result<Vec<Case>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/samplers/k_diffusion.json");
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

/// The largest difference over all steps, relative to the largest |x| of all.
fn largest_relative_difference(case: &Case, dtype: DType) -> Result<f64> {
    let tensor = |images: &Images| Tensor::new(images.clone(), &Device::Cpu)?.to_dtype(dtype);
    let noise = |k: usize, _: &Tensor| match case.noise.get(k) {
        Some(noise) => tensor(noise),
        None => candle_core::bail!("k-diffusion asked for {} noises, we for more", case.noise.len()),
    };
    let sampler = Setting::parse(&case.setting, &Preconditioning::edm(1.0, NoiseInput::Sigma))?.sampler;
    let data = Mixture { mean: case.mean, std: case.std };
    let (states, asked) = step_by_step(&sampler, &data, &tensor(&case.x)?, &case.sigmas, &noise)?;
    assert_eq!(asked, case.noise.len(), "{}", case.setting);
    assert_eq!(states.len(), case.states.len(), "{}", case.setting);
    let size = |values: &[f64]| values.iter().fold(0f64, |size, value| size.max(value.abs()));
    let (mut largest, mut scale) = (0f64, 0f64);
    for (ours, theirs) in states.iter().zip(&case.states) {
        let ours = ours.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let theirs = theirs.concat();
        assert!(ours.iter().all(|value| value.is_finite()), "{}", case.setting);
        let differences: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        (largest, scale) = (largest.max(size(&differences)), scale.max(size(&theirs)));
    }
    Ok(largest / scale)
}

#[test]
fn every_step_agrees_with_k_diffusion() -> Result<()> {
    for case in cases()? {
        let name = &case.setting;
        for (dtype, bound) in [(DType::F64, 1e-12f64), (DType::F32, 1e-3)] {
            let off = largest_relative_difference(&case, dtype).with_context(|| name.clone())?;
            // The size of a step follows from a difference of nearly equal numbers, which magnifies rounding.
            let bound = if name.starts_with("dpm_adaptive") {
                if dtype == DType::F64 { 1e-9 } else { 0.03 }
            } else {
                bound
            };
            println!("{name} in {dtype:?}: {off:.1e}");
            assert!(off <= bound, "{name} differs by {off:.1e} in {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn every_sampler_of_k_diffusion_is_compared() -> Result<()> {
    let cases = cases()?;
    for info in Sampler::ALL.iter().filter(|info| info.name != "ddim") {
        let compared = cases.iter().any(|case| case.setting.split(' ').next() == Some(info.name));
        assert!(compared, "{} is missing from SETTINGS in scripts/k_diffusion_steps.py", info.name);
    }
    Ok(())
}
