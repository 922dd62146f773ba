//! Samples with the exact denoiser of a mixture of two normal distributions, in f64, and writes every step: other
//! software can repeat it to the last digits.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use elucidate_core::files::read_tensors;
use elucidate_core::rng::Streams;
use elucidate_samplers::{Churn, Sampler};
use elucidate_schedules::karras_sigmas;
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
/// Starts from the tensor `x` of a safetensors file: any shape, any float dtype, noise at scale sigma-max. Writes, in
/// f64: `out`, the samples; `sigmas` (steps + 1), the last 0; `steps` (steps + 1, …), x at the start and after each
/// step; and, where the sampler asked for noise, `noise` (k, …), all of it in order.
#[derive(Parser)]
struct Options {
    /// The sampler
    #[arg(long, value_enum)]
    sampler: SamplerName,
    /// Steps, the last one down to sigma 0
    #[arg(long, default_value_t = 20, value_name = "N")]
    steps: usize,
    /// Curvature of the sigma steps
    #[arg(long, allow_negative_numbers = true, default_value_t = 7.0)]
    rho: f64,
    /// The smallest sigma above 0
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.01, value_name = "SIGMA")]
    sigma_min: f64,
    /// The sigma to begin with
    #[arg(long, allow_negative_numbers = true, default_value_t = 80.0, value_name = "SIGMA")]
    sigma_max: f64,
    /// How much fresh noise a step takes (euler_ancestral), 0 to 1
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.5)]
    eta: f64,
    /// Heun's churn: how much noise is added back over all steps
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.0)]
    s_churn: f64,
    /// Order of the multistep method, 1 to 4
    #[arg(long, default_value_t = 4)]
    order: usize,
    /// Seed of the noise that euler_ancestral and churn add
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

/// The samplers by name.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum SamplerName {
    /// Euler's method
    Euler,
    /// Euler's method with fresh noise
    EulerAncestral,
    /// Heun's method, with churn
    Heun,
    /// Linear multistep
    Lms,
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
    let (data, sampler) = (options.data()?, options.sampler()?);
    let sigmas = karras_sigmas(options.steps, options.sigma_min, options.sigma_max, options.rho)?;
    let x = read(&options.input)?;
    // A single number is a batch of one.
    let batch = if x.rank() == 0 { x.reshape(1)? } else { x.clone() };
    let noise = |k, like: &Tensor| normal(options.seed, k, like);
    let (states, asked) = step_by_step(sampler, &data, &batch, &sigmas, &noise)?;
    let noises = (0..asked).map(|k| noise(k, &batch)).collect::<candle_core::Result<Vec<_>>>()?;
    let out = states[sigmas.len() - 1].reshape(x.shape())?;
    ensure!(is_finite(&out)?, "the samples are not finite: --sigma-max or --mean is too large");
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

    fn sampler(&self) -> Result<Sampler> {
        let Self { eta, s_churn, order, .. } = *self;
        ensure!((0.0..=1.0).contains(&eta), "--eta {eta} is impossible: give 0 to 1");
        ensure!(s_churn.is_finite() && s_churn >= 0.0, "--s-churn {s_churn} is impossible: give 0 or more");
        ensure!((1..=4).contains(&order), "--order {order} is impossible: give 1 to 4");
        Ok(match self.sampler {
            SamplerName::Euler => Sampler::Euler,
            SamplerName::EulerAncestral => Sampler::EulerAncestral { eta },
            SamplerName::Heun => Sampler::Heun { churn: Churn { s_churn, ..Churn::default() } },
            SamplerName::Lms => Sampler::Lms { order },
        })
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
