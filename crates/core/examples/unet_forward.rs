//! Runs a UNet from a model folder that diffusers or this project made.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use elucidate_core::files::read_tensors;
use elucidate_core::params::frozen;
use elucidate_core::unet::{UNet2DModel, load_model};
use std::path::PathBuf;
use std::process::ExitCode;

/// Puts the tensors `sample` (n,c,h,w) and `timestep` (n, or one for all) of a safetensors file through a UNet; writes the tensor `out`.
#[derive(Parser)]
struct Options {
    /// A folder as diffusers saves it: config.json and diffusion_pytorch_model.safetensors, or a pipeline's with them in unet/
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Where the inputs are
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the output goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Compute with candle's own ops instead of this project's kernels
    #[arg(long)]
    candle_ops: bool,
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
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).without_time().init();
    elucidate_kernels::force_candle_ops(options.candle_ops);
    let (config, weights) = load_model(&options.model, &Device::Cpu)?;
    let model = UNet2DModel::new(&config, frozen(&weights, &Device::Cpu))?;
    let inputs = read_tensors(&options.input, &Device::Cpu)?;
    let input = |name: &str| -> Result<Tensor> {
        let tensor =
            inputs.get(name).with_context(|| format!("{} lacks tensor {name}", options.input.display()))?;
        Ok(tensor.to_dtype(DType::F32)?)
    };
    let out = model
        .forward(&input("sample")?, &input("timestep")?)
        .with_context(|| format!("{} does not fit the model", options.input.display()))?;
    out.save_safetensors("out", &options.output)
        .with_context(|| format!("cannot write {}", options.output.display()))
}
