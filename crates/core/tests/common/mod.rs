//! What is asked of our kernels and of candle's ops alike.
#![allow(dead_code)] // Each test file uses its part.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::Init;
use elucidate_core::optim::{Adam, AdamState};
use elucidate_core::params::Params;
use elucidate_core::rng::Streams;
use elucidate_core::unet::{UNet2DModel, load_model};
use std::path::{Path, PathBuf};

pub const FIXTURES: [&str; 7] =
    ["lesson_like", "attention_first", "one_level", "one_head", "no_attention", "mixed_levels", "unpadded"];

/// The fixture `name`, as tests/fixtures/unet/make.py made it.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/unet").join(name)
}

pub fn largest(difference: &Tensor) -> Result<f64> {
    Ok(difference.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// The largest difference between our output and diffusers', on a GPU where this build and machine have one.
pub fn difference(name: &str, dtype: DType) -> Result<f64> {
    let device = Device::cuda_if_available(0)?;
    let (config, tensors) = load_model(&folder(name), &device)?;
    let vb = candle_nn::VarBuilder::from_tensors(tensors.into_iter().collect(), dtype, &device);
    let model = UNet2DModel::new(&config, vb)?;
    let io = candle_core::safetensors::load(folder(name).join("io.safetensors"), &device)?;
    let out = model.forward(&io["sample"].to_dtype(dtype)?, &io["timestep"])?;
    assert_eq!(out.dims(), io["out"].dims());
    largest(&(out.to_dtype(DType::F32)? - &io["out"])?)
}

/// Twenty steps of one weight of (70, 30) along transposed, so not contiguous, gradients; `still` gets none.
pub fn twenty_steps() -> Result<(Params, AdamState)> {
    let streams = Streams::new(3);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| {
        let normal = Init::Randn { mean: 0.0, stdev: 1.0 };
        vb.get_with_hints((70, 30), "moving", normal)?;
        vb.get_with_hints(4, "still", normal)
    })?;
    let mut adam = Adam::new(&params, 1e-5, 0.99)?;
    params.vars()["still"].set(&Tensor::ones(4, DType::F32, &Device::Cpu)?)?;
    for step in 0..20 {
        let grad = streams.normal_images("gradient", 30 * step..30 * (step + 1), &[70], &Device::Cpu)?;
        adam.step(&[("moving".to_string(), grad.t()?)].into(), 1e-2, 0.9)?;
    }
    Ok((params, adam.state().clone()))
}
