//! The real exp-23-karras on the real data, at smoke size. Needs the data: `just data`.

mod common;

use anyhow::{Context, Result};
use assert_cmd::Command;
use common::{has_files, refuses};
use elucidate_report::{RunRecord, SampleRow, TrainRow, read_csv, read_json};
use std::fs;
use std::path::Path;

const BINARY: &str = env!("CARGO_BIN_EXE_exp-23-karras");

fn exp() -> Command {
    common::command(BINARY)
}

fn smoke(out: &Path) -> Command {
    common::smoke(BINARY, out)
}

/// A smoke run in which one setting is sampled alone.
fn short(out: &Path) -> Command {
    let mut command = smoke(out);
    command.args(["--epochs", "1"]).args(ONE_SETTING);
    command
}

const ONE_SETTING: [&str; 6] = ["--sampler", "heun", "--steps", "2", "--samples", "10"];

/// The same for a model that was trained before.
fn sample_again(out: &Path, model: &Path) -> Command {
    let mut command = smoke(out);
    command.args(ONE_SETTING).arg("--checkpoint").arg(model);
    command
}

#[test]
fn a_smoke_run_leaves_everything_in_its_folder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    smoke(&out).assert().success();
    let names = [
        "denoised_in_one_step.png",
        "fid_by_rho.png",
        "fid_by_sampler.png",
        "classes.png",
        "log.txt",
        "loss.png",
        "loss_by_sigma.csv",
        "loss_by_sigma.png",
        "model/config.json",
        "model/diffusion_pytorch_model.safetensors",
        "nearest.csv",
        "nearest.png",
        "noised_and_targets.png",
        "pure_noise_denoised.png",
        "sampling_sigma.png",
        "training_sigma.png",
    ];
    has_files(&out, &names);
    let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
    let names: Vec<&str> = rows.iter().map(|row| row.sampler.as_str()).collect();
    assert_eq!(&names[..4], ["real", "real_noise_0.05", "real_noise_0.1", "real_blur_0.5"]);
    assert_eq!(&names[4..10], ["euler", "euler_ancestral", "heun", "heun", "heun", "lms"]);
    assert!(rows.iter().all(|row| row.fid.is_finite() && row.kid.is_finite()));
    // Real images are closer to real images than those of a network that has seen 512.
    assert!(rows[4..].iter().all(|row| row.fid > rows[0].fid));
    let train: Vec<TrainRow> = read_csv(&out.join("train.csv"))?;
    assert_eq!(train.len(), 2);
    assert!(train[1].test_loss < train[0].test_loss);
    let record: RunRecord = read_json(&out.join("run.json"))?;
    assert!(record.finished.is_some());
    assert!((record.figures["data std"] - 0.66).abs() < 0.005);
    for name in ["input std", "target std"] {
        assert!((record.figures[name] - 1.0).abs() < 0.1, "{name} is {}", record.figures[name]);
    }
    assert_eq!(rows[0].classifier_sha256, record.classifier_sha256);
    Ok(())
}

/// What must be the same in every row of two runs of one command: all but the run's name, its times and threads, and the git
/// revision, which somebody's commit changes while tests run.
fn figures(run: &Path) -> Result<Vec<SampleRow>> {
    let rows = read_csv::<SampleRow>(&run.join("samples.csv"))?.into_iter();
    let same =
        |row| SampleRow { run: String::new(), seconds: 0.0, threads: 0, git_revision: String::new(), ..row };
    Ok(rows.map(same).collect())
}

#[test]
fn the_same_command_gives_the_same_figures_with_any_threads_and_batches() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let figures = |name: &str, options: &[&str]| -> Result<Vec<SampleRow>> {
        let out = dir.path().join(name);
        let churn = ["--s-churn", "0.5", "--seeds", "2", "--fid-infinity"];
        short(&out).args(churn).args(options).assert().success();
        figures(&out)
    };
    let one = figures("one", &["--threads", "1"])?;
    assert_eq!(one.len(), 10);
    assert!(one.iter().all(|row| row.fid_infinity.is_some() && row.coverage.is_some()));
    assert_eq!(one, figures("two", &["--threads", "2"])?);
    assert_eq!(one, figures("batches of 3", &["--sampling-batch-size", "3"])?);
    assert_eq!(one, figures("batches of 1", &["--sampling-batch-size", "1"])?);
    Ok(())
}

#[test]
fn seeds_have_noise_of_their_own_and_the_first_is_that_of_a_run_with_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (first, both, second) = (dir.path().join("1"), dir.path().join("2"), dir.path().join("3"));
    short(&first).assert().success();
    let model = first.join("model");
    sample_again(&both, &model).args(["--seeds", "2"]).assert().success();
    sample_again(&second, &model).args(["--seed", "2"]).assert().success();
    let of_seed = |rows: Vec<SampleRow>, seed: u64| -> Vec<SampleRow> {
        rows.into_iter().filter(|row| row.seed == seed).collect()
    };
    let all = figures(&both)?;
    assert_eq!(of_seed(all.clone(), 1), figures(&first)?);
    assert_eq!(of_seed(all.clone(), 2), figures(&second)?);
    let fid =
        |seed| all.iter().filter(|row| row.seed == seed).map(|row| row.fid.to_bits()).collect::<Vec<_>>();
    assert!(fid(1).iter().zip(&fid(2)).all(|(a, b)| a != b));
    Ok(())
}

#[test]
fn a_model_can_be_sampled_again_without_training() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    short(&first).assert().success();
    sample_again(&second, &first.join("model")).arg("--save-samples").assert().success();
    assert!(!second.join("train.csv").exists());
    assert_eq!(figures(&first)?, figures(&second)?);
    assert!(second.join("samples/heun_2.safetensors").exists());
    let samples =
        candle_core::safetensors::load(second.join("samples/heun_2.safetensors"), &candle_core::Device::Cpu)?;
    let samples = samples.get("samples").context("tensor samples")?;
    assert_eq!(samples.dims(), [10, 1, 32, 32]);
    // As a pipeline of diffusers' has it, with weights of a variant.
    let (pipeline, third) = (dir.path().join("pipeline"), dir.path().join("third"));
    fs::create_dir(&pipeline)?;
    fs::rename(first.join("model"), pipeline.join("unet"))?;
    let weights = ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"];
    let [plain, variant] = weights.map(|name| pipeline.join("unet").join(name));
    fs::rename(plain, variant)?;
    sample_again(&third, &pipeline).assert().success();
    assert_eq!(figures(&first)?, figures(&third)?);
    Ok(())
}

#[test]
fn a_model_is_not_sampled_as_something_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let first = dir.path().join("first");
    short(&first).assert().success();
    let model = first.join("model");
    let again = |name: &str| sample_again(&dir.path().join(name), &model);
    refuses(again("sigma").args(["--sigma-data", "0.5"]), "0.66");
    refuses(again("blocks").args(["--blocks", "16,32"]), "--blocks");
    let config = fs::read_to_string(model.join("config.json"))?;
    fs::write(model.join("config.json"), config.replace("23_karras", "22_cosine"))?;
    refuses(&mut again("experiment"), "22_cosine");
    Ok(())
}

#[test]
fn impossible_options_are_refused_before_anything_is_written() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    for (options, what) in [
        (&["--epochs", "0"][..], "--epochs 0"),
        (&["--samples", "1"], "--samples 1"),
        (&["--seeds", "0"], "--seeds 0"),
        (&["--sampling-batch-size", "0"], "--sampling-batch-size 0"),
        (&["--batch-size", "0"], "--batch-size 0"),
        (&["--lr", "-1"], "--lr"),
        (&["--lr", "nan"], "--lr"),
        (&["--blocks", "8,12"], "--blocks 12"),
        (&["--blocks", "8,8,8,8,8,8,8"], "--blocks"),
        (&["--attention", "7"], "--attention 7"),
        (&["--sigma-data", "-0.5"], "--sigma-data"),
        (&["--threads", "0"], "--threads 0"),
        (&["--train-images", "60001"], "--train-images"),
        (&["--checkpoint-minutes", "-1"], "--checkpoint-minutes -1"),
        (&["--checkpoint-minutes", "nan"], "--checkpoint-minutes NaN"),
        (&["--sampler", "heun", "--rho", "0"], "--rho 0"),
        (&["--sampler", "heun", "--sigma-min", "-0.1"], "--sigma-min"),
        (&["--sampler", "heun", "--sigma-max", "1e300"], "--sigma-max"),
        (&["--sampler", "heun", "--sigma-min", "90"], "sigma_min=90"),
        (&["--sampler", "heun", "--steps", "0"], "--steps 0"),
        (&["--sampler", "lms", "--order", "5"], "--order 5"),
        (&["--sampler", "euler_ancestral", "--eta", "2"], "--eta 2"),
        (&["--sampler", "heun", "--s-churn", "-1"], "--s-churn"),
        (&["--sampler", "dpm"], "dpm"),
        (&["--sampler", "huen"], "did you mean heun?"),
        (&["--sampler", "euler", "--order", "2"], "--order is no option of --sampler euler"),
        (&["--setting", "heun steps=20 churn"], "word 3"),
        (&["--setting", "heun s_chrun=1"], "did you mean s_churn?"),
        (&["--sampler", "heun", "--rho", "0.001"], "rho=0.001"),
        (&["--sampler", "heun", "--steps", "1000000000000"], "--steps 1000000000000"),
        (&["--rho", "3"], "--sampler"),
        (&["--frobnicate"], "--frobnicate"),
        (&["--device", "tpu"], "tpu"),
    ] {
        let options: Vec<String> = match options {
            // A minus sign would look like another option.
            [name, value] if value.starts_with('-') => vec![format!("{name}={value}")],
            [first @ .., name, value] if value.starts_with('-') => {
                first.iter().map(ToString::to_string).chain([format!("{name}={value}")]).collect()
            }
            other => other.iter().map(ToString::to_string).collect(),
        };
        let result = smoke(&out).args(&options).assert().failure();
        let stderr = String::from_utf8_lossy(&result.get_output().stderr).into_owned();
        assert!(stderr.starts_with("error:"), "{options:?}: {stderr}");
        assert!(stderr.contains(what), "{options:?}: {stderr}");
        assert!(!out.exists(), "{options:?} left a folder behind");
    }
    Ok(())
}

#[test]
fn missing_and_damaged_files_are_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (empty, out) = (dir.path().join("empty"), dir.path().join("run"));
    fs::create_dir(&empty)?;
    refuses(smoke(&out).arg("--data-dir").arg(&empty), "train-images-idx3-ubyte");
    fs::write(empty.join("train-images-idx3-ubyte"), "not images")?;
    refuses(smoke(&out).arg("--data-dir").arg(&empty), "SHA-256");
    refuses(smoke(&out).arg("--checkpoint").arg(&empty), "config.json");
    refuses(exp().arg("--resume").arg(&empty), "run.json");
    fs::write(dir.path().join("file"), "")?;
    refuses(&mut smoke(&dir.path().join("file/run")), "--out");
    refuses(&mut smoke(dir.path()), "already holds files");
    Ok(())
}

#[test]
fn a_damaged_model_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let first = dir.path().join("first");
    short(&first).assert().success();
    let weights = first.join("model/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&weights)?;
    fs::write(&weights, &bytes[..bytes.len() / 2])?;
    let out = dir.path().join("out");
    refuses(&mut sample_again(&out, &first.join("model")), "diffusion_pytorch_model.safetensors");
    Ok(())
}

#[test]
fn a_loss_that_is_not_a_number_ends_the_run_with_one_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    refuses(smoke(&out).args(["--lr", "1e30"]), "--lr");
    assert!(out.join("run.json").exists());
    Ok(())
}
