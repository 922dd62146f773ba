//! Samples with the exact denoiser of a mixture of two normal distributions, in f64, and writes every step: other
//! software can repeat it to the last digits.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use elucidate_core::files::read_tensors;
use elucidate_core::rng::Streams;
use elucidate_samplers::Setting;
use elucidate_schedules::{NoiseInput, Preconditioning};
use mixture::Mixture;
use rand_distr::{Distribution, StandardNormal};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use steps::step_by_step;

#[path = "../tests/common/mixture.rs"]
mod mixture;
#[path = "../tests/common/steps.rs"]
mod steps;

/// Samples data of the distribution ½·N(−mean, std²) + ½·N(mean, std²), each element by itself, with its exact denoiser.
///
/// Starts from the tensor `x` of a safetensors file: any shape, any float dtype, noise at scale sigma_max. Writes, in
/// f64: `out`, the samples; `sigmas`, the noise levels; `steps` (steps + 1, …), x where each step begins, after its churn, and
/// at the end; and, where the sampler asked for noise, `noise` (k, …), all of it in order.
#[derive(Parser)]
struct Options {
    /// The sampler, its options and its noise levels, as in "heun steps=20 s_churn=0.5 rho=7"
    #[arg(long)]
    setting: String,
    /// These noise levels instead, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "SIGMAS")]
    sigmas: Option<Vec<f64>>,
    /// Seed of the noise that the sampler asks for
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The data's mean is this in one half and minus this in the other
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.5)]
    mean: f64,
    /// Standard deviation of each half, above 0
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.2)]
    std: f64,
    /// Where `x` is
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the results go
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let data = options.data()?;
    let setting = Setting::parse(&options.setting, &Preconditioning::edm(1.0, NoiseInput::Sigma))?;
    let sigmas = match &options.sigmas {
        Some(sigmas) => sigmas.clone(),
        None => setting.sigmas(&Preconditioning::edm(1.0, NoiseInput::Sigma))?,
    };
    let x = read(&options.input)?;
    // A single number is a batch of one.
    let batch = if x.rank() == 0 { x.reshape(1)? } else { x.clone() };
    let noise = |k, like: &Tensor| normal(options.seed, k, like);
    let (states, asked) = step_by_step(&setting.sampler, &data, &batch, &sigmas, &noise)?;
    let noises = (0..asked).map(|k| noise(k, &batch)).collect::<candle_core::Result<Vec<_>>>()?;
    let out = states.last().context("there are no steps")?.reshape(x.shape())?;
    ensure!(is_finite(&out)?, "the samples are not finite: sigma_max or --mean is too large");
    let stacked =
        |tensors: &[Tensor]| Tensor::stack(tensors, 0)?.reshape([&[tensors.len()], x.dims()].concat());
    let mut results = HashMap::from([
        ("out", out),
        ("sigmas", Tensor::new(sigmas.as_slice(), &Device::Cpu)?),
        ("steps", stacked(&states)?),
    ]);
    if asked > 0 {
        results.insert("noise", stacked(&noises)?);
    }
    candle_core::safetensors::save(&results, &options.output)
        .with_context(|| format!("cannot write {}", options.output.display()))
}

impl Options {
    fn data(&self) -> Result<Mixture> {
        let Self { mean, std, .. } = *self;
        ensure!(mean.is_finite(), "--mean {mean} is impossible: give a finite number");
        ensure!(std.is_finite() && std > 0.0, "--std {std} is impossible: give a number above 0");
        Ok(Mixture { mean, std })
    }
}

/// The tensor `x` of a safetensors file, in f64.
fn read(path: &Path) -> Result<Tensor> {
    let tensors = read_tensors(path, &Device::Cpu)?;
    let x = tensors.get("x").with_context(|| format!("{} lacks tensor x", path.display()))?;
    ensure!(x.dtype().is_float(), "x in {} is {:?}: give floats", path.display(), x.dtype());
    ensure!(x.elem_count() > 0, "x in {} is empty", path.display());
    let x = x.to_dtype(DType::F64)?;
    ensure!(is_finite(&x)?, "x in {} has a value that is not finite", path.display());
    Ok(x)
}

fn is_finite(x: &Tensor) -> candle_core::Result<bool> {
    Ok(x.flatten_all()?.to_vec1::<f64>()?.iter().all(|value| value.is_finite()))
}

/// The k-th noise, f64 of the shape of `like`: the beginning of stream ("noise", k).
fn normal(seed: u64, k: usize, like: &Tensor) -> candle_core::Result<Tensor> {
    let mut stream = Streams::new(seed).stream("noise", k as u64);
    let values: Vec<f64> = (0..like.elem_count()).map(|_| StandardNormal.sample(&mut stream)).collect();
    Tensor::from_vec(values, like.shape(), &Device::Cpu)
}
