//! The real exp-23-karras on the real data, at smoke size. Needs the data: `just data`.

mod common;

use anyhow::{Context, Result};
use assert_cmd::Command;
use common::{has_files, refuses, stopped};
use elucidate_core::data::{FashionMnist, PixelRange};
use elucidate_core::rng::Streams;
use elucidate_metrics::{Classifier, fid};
use elucidate_report::{
    Figure, RunRecord, SampleRow, ScoredRun, Summary, TrainRow, read_csv, read_json, read_scalars,
};
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
    smoke(&out).args(["--fid-every", "2"]).assert().success();
    let names = [
        "denoised_in_one_step.png",
        "fid_by_epoch.png",
        "fid_by_rho.png",
        "fid_by_rho.svg",
        "fid_by_sampler.png",
        "samples_by_epoch/epoch_0001.png",
        "samples_by_epoch/epoch_0002.png",
        "classes.png",
        "log.txt",
        "loss.png",
        "loss_by_sigma.csv",
        "loss_by_sigma.png",
        "model/README.md",
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

    let told = read_scalars(&out.join("tensorboard/training"))?;
    assert_eq!(
        told["loss/test"].iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        [train[0].step, train[1].step]
    );
    assert_eq!(told["loss/batch"].len(), train[1].step);
    assert_eq!(told["fid/512 samples"].len(), 1);
    let of_heun = &read_scalars(&out.join("tensorboard/samples"))?["fid/heun 5"];
    assert_eq!(of_heun.as_slice(), [(1, rows[6].fid as f32)]);

    // The log's last table has the intervals that a comparison gives, which reads the run from its files.
    let (log, scored) = (fs::read_to_string(out.join("log.txt"))?, ScoredRun::read(&out)?);
    for summary in Summary::all(&scored.rows) {
        let fid = format!("{:.2}", summary.figure(Figure::Fid));
        assert!(log.contains(&fid), "{}: no {fid} in {log}", summary.first().label());
    }

    let card = fs::read_to_string(out.join("model/README.md"))?;
    assert!(card.contains(&format!("loss: {:.4} on", train[1].test_loss)), "{card}");
    assert!(card.contains(&format!("| heun 5 | 48 | 9 | {:.1}", rows[6].fid)), "{card}");
    // Its example begins at sigma_max, with c_skip, c_out, c_in and c_noise of Karras 2022, table 1.
    let at_80 = card.lines().find(|line| line.trim_start().starts_with("(80.0")).context("sigma 80")?;
    let numbers = at_80.trim().trim_matches(['(', ')', ',']).split(", ").map(str::parse::<f64>);
    let numbers: Vec<f64> = numbers.collect::<Result<_, _>>()?;
    let total = 80f64.hypot(0.66);
    let expected = [80.0, (0.66 / total).powi(2), 80.0 * 0.66 / total, 1.0 / total, 80.0, 0.0];
    assert!(numbers.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{at_80}");
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
        (&["--test-images", "5"], "--test-images 5"),
        (&["--layers-per-block", "100000"], "--layers-per-block 100000"),
        (&["--seeds", "0"], "--seeds 0"),
        (&["--seeds", "99999999999"], "--seeds 99999999999"),
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
        (&["--sampler", "heun", "--rho", "-1"], "--rho -1"),
        (&["--sigma-data", "1e-300"], "sigma_data"),
        (&["--checkpoint", "/nowhere"], "/nowhere"),
        (&["--classifier", "/nowhere"], "/nowhere"),
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
        let result = smoke(&out).args(options).assert().failure();
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
    refuses(&mut smoke(&dir.path().join("two\nlines")), "--out");
    assert!(!out.exists());
    Ok(())
}

#[test]
fn the_fewest_samples_and_test_images_end_as_the_others_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (name, options) in
        [("samples", ["--samples", "8"]), ("odd", ["--samples", "11"]), ("test", ["--test-images", "8"])]
    {
        let out = dir.path().join(name);
        smoke(&out).args(["--epochs", "1"]).args(options).assert().success();
        let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
        assert!(rows.iter().any(|row| row.rho == Some(1.0)), "{name} has no sweep of rho");
        assert!(rows.iter().all(|row| row.kid_bootstrap_std_err.is_some_and(f64::is_finite)), "{name}");
    }
    Ok(())
}

#[test]
fn a_run_is_gone_on_with_from_any_folder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (here, there) = (dir.path().join("here"), dir.path().join("there/below"));
    fs::create_dir_all(&here)?;
    fs::create_dir_all(&there)?;
    // A relative path in the command that began it: that of a model.
    short(&dir.path().join("here/first")).assert().success();
    let mut begun = exp();
    let data = fs::canonicalize(FashionMnist::load(None)?.source)?;
    begun.current_dir(&here).env("FASHION_MNIST_DIR", &data).args([
        "--preset",
        "smoke",
        "--checkpoint",
        "first",
        "--out",
        "again",
    ]);
    begun.args(ONE_SETTING).assert().success();
    let record: RunRecord = read_json(&here.join("again/run.json"))?;
    assert_eq!(record.working_folder.as_deref(), Some(".."));
    let table = fs::read(here.join("again/samples.csv"))?;
    // As if it had been killed before its last row.
    stopped(&here.join("again"), |_| ())?;
    let whole = String::from_utf8(table)?;
    let rows: Vec<&str> = whole.lines().collect();
    fs::write(here.join("again/samples.csv"), rows[..rows.len() - 1].join("\n"))?;
    let mut resumed = exp();
    resumed.current_dir(&there).env("FASHION_MNIST_DIR", &data);
    resumed.args(["--resume", "../../here/again"]).assert().success();
    let rows: Vec<SampleRow> = read_csv(&here.join("again/samples.csv"))?;
    assert_eq!(rows.last().map(|row| row.sampler.as_str()), Some("heun"));
    Ok(())
}

#[test]
fn a_table_with_notes_is_gone_on_with_and_kept() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    short(&out).assert().success();
    stopped(&out, |_| ())?;
    let table = fs::read_to_string(out.join("samples.csv"))?;
    let noted: Vec<String> = table
        .lines()
        .enumerate()
        .map(|(i, line)| format!("{line},{}", if i == 0 { "notes" } else { "x" }))
        .collect();
    fs::write(out.join("samples.csv"), noted.join("\n"))?;
    exp().arg("--resume").arg(&out).assert().success();
    assert_eq!(fs::read_to_string(out.join("samples_before_resume.csv"))?, noted.join("\n"));
    Ok(())
}

#[test]
fn a_samples_row_is_that_of_the_samples_that_are_kept() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    short(&out).arg("--save-samples").assert().success();
    let cpu = candle_core::Device::Cpu;
    let samples = candle_core::safetensors::load(out.join("samples/heun_2.safetensors"), &cpu)?;
    let record: RunRecord = read_json(&out.join("run.json"))?;
    let classifier = Classifier::pretrained(&cpu)?;
    assert_eq!(classifier.sha256(), record.classifier_sha256);
    let data = FashionMnist::load(None)?;
    let first: Vec<usize> = (0..128).collect();
    let real = classifier.features(&data.test.batch(&first, PixelRange::SIGNED, &cpu)?)?;
    let found = fid(&real, &classifier.features(&samples["samples"])?)?;
    let row = figures(&out)?.pop().context("a row")?;
    assert!((found / row.fid - 1.0).abs() < 1e-6, "{found} is not {}", row.fid);
    Ok(())
}

#[test]
fn samples_come_nearer_to_the_test_images_with_training() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fid = |name: &str, options: &[&str]| -> Result<f64> {
        let out = dir.path().join(name);
        smoke(&out).args(["--setting", "heun 9"]).args(options).assert().success();
        Ok(figures(&out)?.pop().context("a row")?.fid)
    };
    let (little, more) = (fid("little", &[])?, fid("more", &["--train-images", "2000", "--epochs", "2"])?);
    assert!(more < 0.85 * little, "{more} after 4,000 images, {little} after 512");
    let noise = fid_of_noise()?;
    assert!(more < 0.8 * noise, "{more}, where noise has {noise}");
    Ok(())
}

/// Of 48 images of the data's standard deviation without anything in them.
fn fid_of_noise() -> Result<f64> {
    let cpu = candle_core::Device::Cpu;
    let classifier = Classifier::pretrained(&cpu)?;
    let first: Vec<usize> = (0..128).collect();
    let real = FashionMnist::load(None)?.test.batch(&first, PixelRange::SIGNED, &cpu)?;
    let noise = (Streams::new(1).normal_images("noise", 0..48, &[1, 32, 32], &cpu)? * 0.66)?;
    Ok(fid(&classifier.features(&real)?, &classifier.features(&noise)?)?)
}

#[test]
fn the_revision_is_that_of_the_program_wherever_it_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere)?;
    let mut command = exp();
    command.current_dir(&elsewhere).args(["--preset", "smoke", "--epochs", "1", "--out", "run"]);
    command.arg("--data-dir").arg(fs::canonicalize(FashionMnist::load(None)?.source)?);
    command.args(ONE_SETTING).assert().success();
    let record: RunRecord = read_json(&elsewhere.join("run/run.json"))?;
    let revision = record.git_revision.trim_end_matches("-dirty");
    let is_commit = revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit());
    assert!(is_commit || revision == "unknown", "{revision}");
    let here = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output();
    if here.is_ok_and(|git| git.status.success()) {
        assert!(is_commit, "{revision}");
    }
    Ok(())
}

/// Its stderr on a terminal, as `script` makes one.
fn on_a_terminal(out: &Path, environment: &[(&str, &str)]) -> Result<String> {
    let line =
        format!("{BINARY} --preset smoke --epochs 1 {} --out {}", ONE_SETTING.join(" "), out.display());
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
    let output = command.envs(environment.iter().copied()).output()?;
    assert!(output.status.success());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn colours_and_moving_bars_are_for_terminals_that_have_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let colour = "\u{1b}[32m";
    assert!(on_a_terminal(&dir.path().join("xterm"), &[])?.contains(colour));
    assert!(!on_a_terminal(&dir.path().join("no"), &[("NO_COLOR", "1")])?.contains(colour));
    assert!(!on_a_terminal(&dir.path().join("dumb"), &[("TERM", "dumb")])?.contains('\u{1b}'));
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
