//! Takes Adam's steps under the one-cycle schedule along given gradients: other software can repeat them.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::Init;
use clap::Parser;
use elucidate_core::files::read_tensors;
use elucidate_core::optim::{Adam, OneCycle};
use elucidate_core::params::Params;
use elucidate_core::rng::Streams;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Steps from the tensor `parameters` of a safetensors file, of any shape, along its tensor `gradients` (steps, …), in
/// f32, in one cycle of the learning rate. Writes `parameters` (steps, …), what they are after each step, and
/// `learning_rates` and `beta1` (steps), each step's, in f64.
#[derive(Parser)]
struct Options {
    /// The cycle's largest learning rate
    #[arg(long, allow_negative_numbers = true, default_value_t = 1e-2)]
    max_lr: f64,
    /// What is added to the root of the squared gradients' mean
    #[arg(long, allow_negative_numbers = true, default_value_t = 1e-5)]
    eps: f64,
    /// Where the parameters and gradients are
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
    let Options { max_lr, eps, .. } = *options;
    ensure!(max_lr.is_finite() && max_lr > 0.0, "--max-lr {max_lr} is impossible: give a number above 0");
    ensure!(eps.is_finite() && eps > 0.0, "--eps {eps} is impossible: give a number above 0");
    let (parameters, gradients) = read(&options.input)?;
    let steps = gradients.dim(0)?;
    let (_, params) = Params::init(&Streams::new(0), &Device::Cpu, |vb| {
        vb.get_with_hints(parameters.shape(), "parameters", Init::Const(0.0))
    })?;
    params.assign(&[("parameters".to_string(), parameters)].into())?;
    let cycle = OneCycle::new(max_lr, steps);
    let mut adam = Adam::new(&params, eps, 0.0)?;
    let (mut states, mut rates, mut betas) = (vec![], vec![], vec![]);
    for step in 0..steps {
        let (lr, beta1) = cycle.at(step);
        adam.step(&[("parameters".to_string(), gradients.get(step)?)].into(), lr, beta1)?;
        states.push(params.snapshot()?["parameters"].clone());
        rates.push(lr);
        betas.push(beta1);
    }
    let results = HashMap::from([
        ("parameters", Tensor::stack(&states, 0)?),
        ("learning_rates", Tensor::new(rates, &Device::Cpu)?),
        ("beta1", Tensor::new(betas, &Device::Cpu)?),
    ]);
    candle_core::safetensors::save(&results, &options.output)
        .with_context(|| format!("cannot write {}", options.output.display()))
}

/// The tensors `parameters` (…) and `gradients` (steps, …) of a safetensors file, in f32.
fn read(path: &Path) -> Result<(Tensor, Tensor)> {
    let file = path.display();
    let tensors = read_tensors(path, &Device::Cpu)?;
    let tensor = |name: &str| -> Result<Tensor> {
        let tensor = tensors.get(name).with_context(|| format!("{file} lacks tensor {name}"))?;
        let tensor = tensor.to_dtype(DType::F32)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "{name} in {file} has a value that is not finite"
        );
        Ok(tensor)
    };
    let (parameters, gradients) = (tensor("parameters")?, tensor("gradients")?);
    let steps = gradients.dims().first().copied().unwrap_or(0);
    ensure!(steps > 0 && parameters.elem_count() > 0, "{file} has no gradients or no parameters");
    let needed = [&[steps], parameters.dims()].concat();
    ensure!(
        gradients.dims() == needed,
        "gradients in {file} have shape {:?}; {needed:?} is needed",
        gradients.dims()
    );
    Ok((parameters, gradients))
}
