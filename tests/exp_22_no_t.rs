//! The real exp-22-no-t on the real data, at smoke size, with models of the real exp-22-cosine and exp-22-noise-pred.
//! Needs the data: `just data`.

mod common;

use anyhow::Result;
use common::{has_files, other, refuses};
use elucidate_report::{RunRecord, SampleRow, read_csv, read_json};
use std::fs;
use std::path::{Path, PathBuf};

const BINARY: &str = env!("CARGO_BIN_EXE_exp-22-no-t");

/// The model folder of a smoke run of another experiment.
fn model_of(name: &str, options: &[&str], dir: &Path) -> Result<PathBuf> {
    let out = dir.join(name);
    common::smoke(&other(BINARY, name)?, &out).args(options).assert().success();
    Ok(out.join("model"))
}

#[test]
fn a_smoke_run_with_the_other_notebooks_models_leaves_everything_in_its_folder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cosine = model_of("exp-22-cosine", &["--sampler", "ddim", "--steps", "2"], dir.path())?;
    let noise_pred = model_of("exp-22-noise-pred", &[], dir.path())?;
    let out = dir.path().join("run");
    let mut command = common::smoke(BINARY, &out);
    command.arg("--cosine").arg(&cosine).arg("--noise-pred").arg(&noise_pred).assert().success();
    let names = [
        "alpha_bar_along.png",
        "alpha_bar_along_spread.csv",
        "extremes_along.csv",
        "fid_along.csv",
        "fid_along.png",
        "fid_by_sampler.png",
        "kid_along.png",
        "held_along.png",
        "largest_along.png",
        "read_off_brightened.png",
        "loss.png",
        "nearest.csv",
        "nearest.png",
        "model/README.md",
        "model/config.json",
        "samples_ddim_10_estimated.png",
    ];
    has_files(&out, &names);
    let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
    let sampled = rows.iter().filter(|row| !row.is_real());
    let variants: Vec<Option<&str>> = sampled.map(|row| row.variant.as_deref()).collect();
    // A floor for the main settings and one for the variants, which have fewer samples.
    assert_eq!(rows.iter().filter(|row| row.sampler == "real").count(), 2);
    let estimated = Some("estimated");
    let narrow = Some("estimated, within 1.1 of the median");
    let [told_pixels, pixels, mended_pixels] =
        ["with t, x̂₀ within 0.5", "x̂₀ within 0.5", "estimated, x̂₀ within 0.5"].map(Some);
    let main = [Some("with t"), told_pixels, None, pixels, estimated, narrow, mended_pixels];
    assert_eq!(variants[..7], main);
    assert_eq!(variants.len(), 14);
    assert!(rows.iter().all(|row| row.fid.is_finite() && row.kid.is_finite()));
    let figures = read_json::<RunRecord>(&out.join("run.json"))?.figures;
    // An untrained network answers 0, whose loss is the noise's variance, 1.
    let loss = figures["test loss without t"];
    assert!(loss < 0.9, "{loss}");
    // The same model and data as in its own run, so the same loss.
    let its_own = read_json::<RunRecord>(&dir.path().join("exp-22-cosine/run.json"))?.figures;
    let there = figures["test loss of 22_cosine's model, with t"];
    assert_eq!(there.to_bits(), its_own["test loss"].to_bits());

    // Models of other experiments are refused by name.
    let refused = |out: &str, cosine: &Path, noise_pred: &Path, what: &str| {
        let mut command = common::smoke(BINARY, &dir.path().join(out));
        command.arg("--cosine").arg(cosine).arg("--noise-pred").arg(noise_pred);
        refuses(&mut command, what);
    };
    refused("a", &noise_pred, &noise_pred, "a model of 22_noise_pred, not of 22_cosine");
    refused("b", &cosine, &cosine, "a model of 22_cosine, not of 22_noise_pred");
    refused("c", &out.join("model"), &noise_pred, "a model of 22_no_t, not of 22_cosine");
    Ok(())
}

#[test]
fn without_the_other_models_it_says_how_to_get_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    let mut command = common::smoke(BINARY, &out);
    refuses(command.current_dir(&dir), "`just exp-22-cosine` makes one");
    refuses(common::smoke(BINARY, &out).args(["--steps", "0"]), "--steps 0");
    assert!(!out.exists());
    Ok(())
}

#[test]
fn the_other_notebooks_model_is_the_newest_of_the_same_preset() -> Result<()> {
    let here = tempfile::tempdir()?;
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/22_cosine");
    // The quick run is the older one. Their models are damaged, so that the one that is taken is named.
    for run in ["quick-20261125-113325", "long"] {
        let model = here.path().join("results/22_cosine").join(run).join("model");
        fs::create_dir_all(&model)?;
        fs::copy(results.join(run).join("run.json"), model.with_file_name("run.json"))?;
        fs::write(model.join("config.json"), "{")?;
    }
    for (preset, taken) in [("quick", "quick-20261125-113325"), ("long", "long"), ("smoke", "long")] {
        let mut command = assert_cmd::Command::new(BINARY);
        command.current_dir(here.path()).args(["--preset", preset, "--noise-pred", "results"]);
        refuses(&mut command, &format!("results/22_cosine/{taken}/model"));
    }
    Ok(())
}
