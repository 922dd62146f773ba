//! The real exp-22-cosine on the real data, at smoke size. Needs the data: `just data`.

mod common;

use anyhow::Result;
use common::{has_files, refuses};
use elucidate_report::{RunRecord, SampleRow, TrainRow, read_csv, read_json};
use std::path::Path;

const BINARY: &str = env!("CARGO_BIN_EXE_exp-22-cosine");

fn smoke(out: &Path) -> assert_cmd::Command {
    common::smoke(BINARY, out)
}

#[test]
fn a_smoke_run_leaves_everything_in_its_folder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    smoke(&out).assert().success();
    let names = [
        "denoised_in_one_step.png",
        "fid_by_sampler.png",
        "log.txt",
        "loss.png",
        "nearest.csv",
        "nearest.png",
        "model/README.md",
        "model/config.json",
        "model/diffusion_pytorch_model.safetensors",
        "noised.png",
        "sampling_sigma.png",
        "samples_ddim_10_clamp=3_floor=0.01_scale=0.5_spacing=ddim.png",
        "schedule_alpha_bar.csv",
        "schedule_alpha_bar.png",
        "schedule_log_snr.png",
        "schedule_sigma.png",
    ];
    has_files(&out, &names);
    let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
    let settings: Vec<_> = rows.iter().map(|row| (row.sampler.as_str(), row.steps, row.eta)).collect();
    assert_eq!(settings[4], ("ddim", Some(10), Some(1.0)));
    assert_eq!(settings[9], ("ddim", Some(5), Some(0.0)));
    let names: Vec<&str> = rows[10..].iter().map(|row| row.sampler.as_str()).collect();
    assert_eq!(names, ["euler", "lms", "heun", "euler", "lms", "heun"]);
    assert!(rows[4..].iter().all(|row| row.fid.is_finite() && row.sigma_data.is_none()));
    let train: Vec<TrainRow> = read_csv(&out.join("train.csv"))?;
    assert!(train[1].test_loss < train[0].test_loss);
    let record: RunRecord = read_json(&out.join("run.json"))?;
    assert_eq!(record.experiment, "22_cosine");
    assert!((record.figures["data std"] - 0.33).abs() < 0.005);
    Ok(())
}

#[test]
fn one_setting_alone_gives_the_same_figures_with_any_number_of_threads() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fid = |name: &str, setting: &str, threads: &str, model: Option<&Path>| -> Result<Vec<u64>> {
        let out = dir.path().join(name);
        let mut command = smoke(&out);
        command.args(["--setting", setting, "--threads", threads]);
        if let Some(model) = model {
            command.arg("--checkpoint").arg(model);
        }
        command.args(["--samples", "10"]).assert().success();
        let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
        assert_eq!(rows.len(), 5);
        Ok(rows.iter().map(|row| row.fid.to_bits()).collect())
    };
    let one = fid("one", "ddim 3 eta=0.9", "1", None)?;
    assert_eq!(one, fid("two", "ddim 3 eta=0.9", "2", None)?);
    let model = dir.path().join("one/model");
    assert_eq!(one, fid("again", "ddim 3 eta=0.9", "2", Some(&model))?);
    assert_ne!(one[4], fid("euler", "euler 3", "2", Some(&model))?[4]);
    Ok(())
}

#[test]
fn impossible_options_are_refused_before_anything_is_written() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    for (options, what) in [
        (["--sampler", "ddim", "--eta", "1.5"], "--eta 1.5"),
        (["--sampler", "ddim", "--steps", "0"], "--steps 0"),
        (["--sampler", "lms", "--order", "5"], "--order 5"),
    ] {
        refuses(smoke(&out).args(options), what);
        assert!(!out.exists(), "{options:?} left a folder behind");
    }
    Ok(())
}
