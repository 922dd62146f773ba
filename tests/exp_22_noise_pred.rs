//! The real exp-22-noise-pred on the real data, at smoke size. Needs the data: `just data`.

mod common;

use anyhow::{Context, Result};
use common::{has_files, refuses};
use elucidate_report::{RunRecord, TrainRow, read_csv, read_json};
use std::fs;
use std::path::Path;

const BINARY: &str = env!("CARGO_BIN_EXE_exp-22-noise-pred");

fn smoke(out: &Path) -> assert_cmd::Command {
    common::smoke(BINARY, out)
}

fn record(run: &Path) -> Result<RunRecord> {
    read_json(&run.join("run.json"))
}

#[test]
fn a_smoke_run_leaves_everything_in_its_folder_and_its_model_can_be_measured_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    smoke(&out).args(["--threads", "1", "--lr", "9e-3"]).assert().success();
    let names = [
        "error_by_logit.csv",
        "error_by_logit.png",
        "errors.csv",
        "log.txt",
        "loss.png",
        "loss_alpha_bar.png",
        "model/README.md",
        "model/config.json",
        "model/model.safetensors",
        "predicted_and_true_alpha_bar.png",
        "predicted_by_true.csv",
        "predicted_by_true.png",
        "train_alpha_bar.csv",
    ];
    has_files(&out, &names);
    let train: Vec<TrainRow> = read_csv(&out.join("train.csv"))?;
    assert_eq!(train.len(), 2);
    let trained = record(&out)?;
    let first = &trained.figures;
    // The variance of a logistic variable, π²/3, over 128 images; the constant 0.5 has its square more, about.
    let best = first["MSE of the constant 0 over the test set"];
    assert!((best - 3.29).abs() < 1.5, "{best}");
    // What the best constants have, 0 here and 0.5 there, whose RMSE is 1/√12 where ᾱ is even over [0, 1].
    assert!(first["MSE on logit ᾱ, trained on logit ᾱ"] < best / 2.0);
    for trained in ["trained on ᾱ", "trained on logit ᾱ"] {
        let rmse = first[&format!("RMSE on ᾱ, {trained}")];
        assert!(rmse < 0.75 / 12f64.sqrt(), "{trained}: {rmse}");
    }

    // Other noise than that of the loss after the last epoch, and nearer to it than to nothing.
    let (mse, loss) = (first["MSE on logit ᾱ, trained on logit ᾱ"], train[1].test_loss);
    assert!((mse / loss - 1.0).abs() > 1e-3 && (mse / loss - 1.0).abs() < 0.5, "{mse} and {loss}");
    let error = first["its standard error, trained on logit ᾱ"];
    assert!(error > mse / 100.0 && error < mse / 2.0, "{mse} ± {error}");

    let card = fs::read_to_string(out.join("model/README.md"))?;
    assert!(card.contains(&format!("error on logit ᾱ {mse:.4} ± ")), "{card}");
    assert!(card.contains("these are the last weights"), "{card}");

    let again = dir.path().join("again");
    smoke(&again).args(["--threads", "2", "--checkpoint"]).arg(out.join("model")).assert().success();
    let measured = record(&again)?;
    let name = "MSE on logit ᾱ, trained on logit ᾱ";
    assert_eq!(first[name].to_bits(), measured.figures[name].to_bits());
    // Which model it was, and how that was trained, which is not as the preset has it.
    assert!(trained.checkpoint_sha256.is_some());
    assert_eq!(
        (trained.checkpoint_sha256, trained.parameters, trained.options),
        (measured.checkpoint_sha256, measured.parameters, measured.options)
    );
    Ok(())
}

#[test]
fn impossible_options_and_damaged_models_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    for (options, what) in [
        (["--blocks", "8,16,32"], "six blocks"),
        (["--attention", "1"], "--attention"),
        (["--samples", "10"], "--samples"),
        (["--batch-size", "1"], "--batch-size 1"),
    ] {
        refuses(smoke(&out).args(options), what);
        assert!(!out.exists(), "{options:?} left a folder behind");
    }
    let model = dir.path().join("model");
    fs::create_dir(&model)?;
    let refused = |name: &str, what: &str| {
        refuses(smoke(&dir.path().join(name)).arg("--checkpoint").arg(&model), what);
    };
    refused("a", "config.json");
    fs::write(model.join("config.json"), r#"{"_elucidate": {"experiment": "22_cosine"}}"#)?;
    refused("b", "22_cosine");
    let config = |class: &str| {
        format!(r#"{{"_class_name": "{class}", "block_out_channels": [8,8,8,8,8,8], "_elucidate": {{}}}}"#)
    };
    fs::write(model.join("config.json"), config("ResidualClassifier"))?;
    refused("older", "ResidualClassifier is the older network");
    fs::write(model.join("config.json"), config("UNet2DModel"))?;
    refused("other", "UNet2DModel");
    fs::write(model.join("config.json"), config("NoiseLevelNetwork")).context("config.json")?;
    refused("c", "model.safetensors");
    fs::write(model.join("model.safetensors"), "no weights")?;
    refused("d", "model.safetensors is damaged");
    Ok(())
}
