//! The real exp-design-space on the real data, at smoke size. Needs the data: `just data`.

mod common;

use anyhow::Result;
use common::{has_files, refuses};
use elucidate_report::{SampleRow, TrainRow, read_csv};
use std::path::Path;

const BINARY: &str = env!("CARGO_BIN_EXE_exp-design-space");

fn smoke(out: &Path) -> assert_cmd::Command {
    common::smoke(BINARY, out)
}

#[test]
fn every_prediction_learns_and_is_sampled_by_the_same_samplers() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (i, options) in [
        &["--prediction", "edm", "--schedule", "edm"][..],
        &["--prediction", "v", "--schedule", "sigmoid", "--data-scale", "0.5", "--normalise-input"],
        &["--prediction", "x0", "--schedule", "linear_alpha_bar", "--stratified"],
        &["--prediction", "flow", "--schedule", "rectified_flow", "--loss-weight", "soft-min-snr"],
        &["--prediction", "ve", "--schedule", "ve"],
    ]
    .iter()
    .enumerate()
    {
        let out = dir.path().join(i.to_string());
        let settings = ["--setting", "dpmpp_2m 4", "--setting", "dpm_adaptive rtol=0.5", "--samples", "12"];
        smoke(&out).args(*options).args(settings).assert().success();
        has_files(
            &out,
            &["error_by_sigma.csv", "inputs_and_targets.png", "fid_by_sampler.png", "model/config.json"],
        );
        let train: Vec<TrainRow> = read_csv(&out.join("train.csv"))?;
        assert!(train[1].test_loss < train[0].test_loss, "{options:?}: {train:?}");
        let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
        let names: Vec<&str> = rows[4..].iter().map(|row| row.sampler.as_str()).collect();
        assert_eq!(names, ["dpmpp_2m", "dpm_adaptive"]);
        assert_eq!(rows[4].nfe, Some(4));
        // Of order 3, three evaluations a step.
        assert!(rows[5].nfe.is_some_and(|nfe| nfe > 3 && nfe % 3 == 0), "{:?}", rows[5].nfe);
    }
    Ok(())
}

#[test]
fn impossible_choices_are_refused_before_anything_is_written() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    for (options, what) in [
        (["--schedule", "cosin"], "cosine"),
        (["--schedule", "cosine tua=1"], "tua"),
        (["--schedule", "sigmoid start=3 end=-3"], "start=3"),
        (["--prediction", "epsilon"], "eps"),
        (["--prediction", "edm sigma_data=0"], "sigma_data 0"),
        (["--data-scale", "0"], "scale 0"),
        (["--normalise-input", "0"], "normalised"),
        (["--training-noise", "log_normal p_std=0"], "--training-noise: p_mean"),
        (["--training-noise", "log_normal p_std=30"], "p_std above 0 and at most 5"),
        (["--prediction", "edm mean=1e300"], "give -10 to 10"),
        (["--training-noise", "log_uniform sigma_min=0"], "sigma_min=0"),
        (["--setting", "heun rho=0.001"], "rho=0.001"),
        (["--data-scale", "100000"], "--data-scale 100000"),
        // What is sampled by default begins below its smallest σ.
        (["--schedule", "vp beta_d=1e-7 beta_min=1e-7"], "sigma_min=0.01 sigma_max=0.0003"),
        (["--schedule", "vp beta_d=100"], "largest sigma is"),
        (["--setting", "heun s_noise=inf"], "s_noise=inf"),
        (["--setting", "ddim scale=inf"], "scale=inf"),
        (["--setting", "euler spacing=list sigmas=1e9,1"], "sigmas=1e9,1"),
    ] {
        refuses(smoke(&out).args(options), what);
        assert!(!out.exists(), "{options:?} left a folder behind");
    }
    Ok(())
}
