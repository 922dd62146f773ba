//! Adam and the one-cycle schedule against PyTorch, on the fixture that tests/fixtures/optim/make.py made.

mod common;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::Init;
use common::twenty_steps;
use elucidate_core::optim::{Adam, OneCycle};
use elucidate_core::params::{Params, Tensors};
use elucidate_core::rng::Streams;
use serde::Deserialize;
use std::path::Path;

type Matrix = Vec<Vec<f32>>;

#[derive(Deserialize)]
struct Fixture {
    inputs: Matrix,
    targets: Matrix,
    first: Weights,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Weights {
    weight: Matrix,
    bias: Vec<f32>,
}

#[derive(Deserialize)]
struct Step {
    lr: f64,
    beta1: f64,
    loss: f64,
    #[serde(flatten)]
    weights: Weights,
}

impl Weights {
    fn tensors(&self) -> Result<Tensors> {
        let weight = Tensor::new(self.weight.clone(), &Device::Cpu)?;
        let bias = Tensor::new(self.bias.as_slice(), &Device::Cpu)?;
        Ok([("weight".to_string(), weight), ("bias".to_string(), bias)].into())
    }
}

fn fixture() -> Result<Fixture> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/optim/adam_one_cycle.json");
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

#[test]
fn a_hundred_steps_agree_with_pytorch() -> Result<()> {
    let fixture = fixture()?;
    let inputs = Tensor::new(fixture.inputs, &Device::Cpu)?;
    let targets = Tensor::new(fixture.targets, &Device::Cpu)?;
    let ((weight, bias), params) = Params::init(&Streams::new(0), &Device::Cpu, |vb| {
        let zero = Init::Const(0.0);
        Ok((vb.get_with_hints((3, 5), "weight", zero)?, vb.get_with_hints(3, "bias", zero)?))
    })?;
    params.assign(&fixture.first.tensors()?)?;
    let schedule = OneCycle::new(1e-2, fixture.steps.len());
    let mut adam = Adam::new(&params, 1e-5, 0.9)?;
    let mut average = params.snapshot()?;
    for (i, step) in fixture.steps.iter().enumerate() {
        let (lr, beta1) = schedule.at(i);
        assert!((lr / step.lr - 1.0).abs() < 1e-9, "step {i}: rate {lr}, PyTorch's {}", step.lr);
        assert!((beta1 - step.beta1).abs() < 1e-12, "step {i}: β₁ {beta1}, PyTorch's {}", step.beta1);
        let loss = (inputs.matmul(&weight.t()?)?.broadcast_add(&bias)? - &targets)?.sqr()?.mean_all()?;
        assert!((f64::from(loss.to_scalar::<f32>()?) / step.loss - 1.0).abs() < 1e-5, "step {i}");
        let mut grads = loss.backward()?;
        let named =
            params.vars().iter().map(|(name, var)| (name.clone(), grads.remove(var).expect("both are used")));
        adam.step(&named.collect(), lr, beta1)?;
        let decay = 0.9f64.min((2.0 + i as f64) / (11.0 + i as f64));
        for (name, expected) in step.weights.tensors()? {
            let off = (params.vars()[&name].as_tensor() - &expected)?
                .abs()?
                .flatten_all()?
                .max(0)?
                .to_scalar::<f32>()?;
            assert!(off < 2e-6, "step {i}: {name} is {off:.1e} off");
            let moved = ((&average[&name] * decay)? + (&expected * (1.0 - decay))?)?;
            let off =
                (&adam.state().ema[&name] - &moved)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(off < 1e-5, "step {i}: the average of {name} is {off:.1e} off");
            average.insert(name, moved);
        }
    }
    Ok(())
}

#[test]
fn a_parameter_without_gradient_stays_and_its_average_follows() -> Result<()> {
    let (params, state) = twenty_steps()?;
    assert_eq!(params.vars()["still"].to_vec1::<f32>()?, [1.0; 4]);
    // What is left of the first average after twenty steps of decay (1 + t)/(10 + t), t = 1, 2, …
    let left: f64 = (1..=20).map(|t| f64::from(1 + t) / f64::from(10 + t)).product();
    let first = Params::init(&Streams::new(3), &Device::Cpu, |vb| {
        vb.get_with_hints(4, "still", Init::Randn { mean: 0.0, stdev: 1.0 })
    })?;
    let expected = ((first.0.detach() * left)? + (1.0 - left))?;
    let off = (&state.ema["still"] - expected)?.abs()?.max(0)?.to_scalar::<f32>()?;
    assert!(off < 1e-6, "{off:.1e}");
    Ok(())
}

#[test]
fn a_gradient_of_another_shape_is_refused() -> Result<()> {
    let (_, params) = Params::init(&Streams::new(0), &Device::Cpu, |vb| vb.get(4, "weight"))?;
    let before = params.snapshot()?["weight"].to_vec1::<f32>()?;
    let grads = [("weight".to_string(), Tensor::ones(5, DType::F32, &Device::Cpu)?)].into();
    let error = Adam::new(&params, 1e-5, 0.9)?.step(&grads, 0.1, 0.9).expect_err("4 is not 5").to_string();
    assert!(error.contains("weight has shape [4], its gradient [5]"), "{error}");
    assert_eq!(params.snapshot()?["weight"].to_vec1::<f32>()?, before);
    Ok(())
}

#[test]
fn the_rate_ends_at_a_250_000th_of_its_peak() {
    let schedule = OneCycle::new(4e-3, 1000);
    assert!((schedule.at(0).0 / (4e-3 / 25.0) - 1.0).abs() < 1e-12);
    assert!((schedule.at(299).0 / 4e-3 - 1.0).abs() < 1e-12);
    assert!((schedule.at(999).0 / (4e-3 / 250_000.0) - 1.0).abs() < 1e-9);
    assert_eq!(schedule.at(5000), schedule.at(999));
    // Runs of a step or two have no room for a cycle, but must not make NaNs.
    for steps in 1..6 {
        for step in 0..steps {
            let (lr, beta1) = OneCycle::new(1.0, steps).at(step);
            assert!(
                lr.is_finite() && lr > 0.0 && (0.85..=0.95).contains(&beta1),
                "{steps} {step}: {lr} {beta1}"
            );
        }
    }
}
