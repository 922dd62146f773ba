//! The example `trace`: what it writes is the library's, and bad input gets one line.

use assert_cmd::Command;
use candle_core::{DType, Device, Result, Tensor};
use elucidate_samplers::Setting;
use elucidate_schedules::{NoiseInput, Preconditioning};
use mixture::Mixture;
use predicates::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use tempfile::TempDir;

#[path = "common/mixture.rs"]
mod mixture;

/// The example's binary, which `cargo test` builds beside the folder of this test's, on `input` of the folder.
fn trace(folder: &TempDir, input: &str, arguments: &[&str]) -> assert_cmd::assert::Assert {
    let this = std::env::current_exe().unwrap();
    let example = this.ancestors().nth(2).unwrap().join("examples/trace");
    // With RUST_BACKTRACE, candle's errors bring a backtrace along.
    let mut command = Command::new(example);
    command.env_remove("RUST_BACKTRACE").args(arguments);
    command
        .arg("--input")
        .arg(folder.path().join(input))
        .arg("--output")
        .arg(folder.path().join("out"))
        .assert()
}

fn results(folder: &TempDir, arguments: &[&str]) -> HashMap<String, Tensor> {
    trace(folder, "in", arguments).success();
    candle_core::safetensors::load(folder.path().join("out"), &Device::Cpu).unwrap()
}

fn save(folder: &Path, file: &str, name: &str, tensor: &Tensor) {
    tensor.save_safetensors(name, folder.join(file)).unwrap();
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn what_it_writes_is_the_librarys() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let x = Tensor::new(&[[30f32, -70.0, 5.0], [-12.0, 0.5, 90.0]], &Device::Cpu)?;
    save(folder.path(), "in", "x", &x);
    let (x, data) = (x.to_dtype(DType::F64)?, Mixture { mean: 0.3, std: 0.1 });
    for (text, noises) in [
        ("euler steps=6 rho=5 sigma_min=0.002", 0),
        ("euler_ancestral steps=6 eta=0.8", 5),
        ("heun steps=6", 0),
        ("heun steps=6 s_churn=0.7", 6),
        ("lms steps=6 order=3 spacing=exponential", 0),
        ("dpmpp_sde steps=6", 10),
    ] {
        let found = results(&folder, &["--setting", text, "--mean=0.3", "--std=0.1", "--seed=4"]);
        let setting = Setting::parse(text, &Preconditioning::edm(1.0, NoiseInput::Sigma)).unwrap();
        let sigmas = setting.sigmas(&Preconditioning::edm(1.0, NoiseInput::Sigma)).unwrap();
        assert_eq!(values(&found["sigmas"]), sigmas);
        assert_eq!(found["steps"].dims(), [7, 2, 3]);
        assert_eq!(values(&found["steps"].get(6)?), values(&found["out"]));
        let noise = found.get("noise");
        assert_eq!(noise.map_or(0, |noise| noise.dims()[0]), noises, "{text}");
        let mut k = 0;
        let mut replay = |_: &Tensor, _: f64, _: f64| {
            k += 1;
            noise.expect("noise is written where it is asked for").get(k - 1)
        };
        let sampled = setting.sampler.sample(&data, &x, &sigmas, &mut replay, &mut |_| Ok(()))?;
        assert_eq!(values(&sampled.images), values(&found["out"]), "{text}");
        let levels: Vec<String> = sigmas.iter().map(f64::to_string).collect();
        let levels = format!("--sigmas={}", levels.join(","));
        let given = results(&folder, &["--setting", text, &levels, "--mean=0.3", "--std=0.1", "--seed=4"]);
        assert_eq!(values(&given["out"]), values(&found["out"]));
    }
    Ok(())
}

#[test]
fn it_takes_any_shape() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for shape in [&[][..], &[1], &[2, 1, 3, 2, 1]] {
        save(folder.path(), "in", "x", &Tensor::full(3f32, shape, &Device::Cpu)?.to_dtype(DType::BF16)?);
        let found = results(&folder, &["--setting=heun steps=3 s_churn=1"]);
        assert_eq!(found["out"].dims(), shape);
        assert_eq!(found["steps"].dims(), [&[4], shape].concat());
        assert_eq!(found["noise"].dims(), [&[3], shape].concat());
    }
    Ok(())
}

#[test]
fn bad_input_is_refused_in_one_line() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    save(path, "in", "x", &Tensor::new(&[1f32, 2.0], &Device::Cpu)?);
    save(path, "unnamed", "y", &Tensor::new(&[1f32], &Device::Cpu)?);
    save(path, "nan", "x", &Tensor::new(&[1.0, f32::NAN], &Device::Cpu)?);
    save(path, "whole_numbers", "x", &Tensor::new(&[1u32, 2], &Device::Cpu)?);
    save(path, "none", "x", &Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?);
    let whole = std::fs::read(path.join("in")).unwrap();
    std::fs::write(path.join("truncated"), &whole[..whole.len() - 1]).unwrap();
    for (input, option, complaint) in [
        ("in", "--setting=heun steps=0", "steps=0"),
        ("in", "--setting=heun rho=-7", "rho=-7"),
        ("in", "--setting=heun sigma_min=80", "<= sigma_min < sigma_max"),
        ("in", "--setting=heun sigma_max=inf", "sigma_max=inf"),
        ("in", "--setting=heun churn=1", "no option \"churn\""),
        ("in", "--setting=hein", "did you mean heun?"),
        ("in", "--sigmas=1,2", "must go down"),
        ("in", "--mean=1e308", "not finite"),
        ("in", "--std=0", "--std 0"),
        ("in", "--std=nan", "--std NaN"),
        ("in", "--mean=inf", "--mean inf"),
        ("missing", "--seed=0", "missing"),
        ("truncated", "--seed=0", "damaged"),
        ("unnamed", "--seed=0", "lacks tensor x"),
        ("nan", "--seed=0", "not finite"),
        ("whole_numbers", "--seed=0", "give floats"),
        ("none", "--seed=0", "empty"),
    ] {
        let one_line = predicate::str::is_match("^error: [^\n]+\n$").unwrap();
        let setting = if option.starts_with("--setting") { option } else { "--setting=heun" };
        let rest = if option == setting { "--seed=0" } else { option };
        let assert = trace(&folder, input, &[setting, rest]).failure().stdout("").stderr(one_line);
        assert.stderr(predicate::str::contains(complaint));
        assert!(!path.join("out").exists());
    }
    Ok(())
}
