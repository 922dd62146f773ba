//! The real exp-truncation on the real data, at smoke size, with a model of the real exp-23-karras. Needs the data: `just data`.

mod common;

use anyhow::{Context, Result};
use common::{has_files, other, refuses};
use elucidate_report::{RunRecord, read_json};
use std::collections::BTreeMap;

const BINARY: &str = env!("CARGO_BIN_EXE_exp-truncation");

#[test]
fn a_smoke_run_measures_the_orders_that_samplers_have_on_the_ideal_denoiser() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (trained, out) = (dir.path().join("trained"), dir.path().join("run"));
    common::smoke(&other(BINARY, "exp-23-karras")?, &trained)
        .args(["--epochs", "1", "--samples", "10", "--setting", "euler 2"])
        .assert()
        .success();
    common::smoke(BINARY, &out).arg("--checkpoint").arg(&trained).assert().success();
    let names = [
        "choices.csv",
        "errors.csv",
        "errors_ideal_at_sigma_0.png",
        "errors_ideal_at_sigma_1.png",
        "errors_trained_at_sigma_0.png",
        "errors_trained_at_sigma_1.png",
        "local_error_ideal_euler.png",
        "local_error_trained_heun.png",
        "log.txt",
    ];
    has_files(&out, &names);
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_path(out.join("errors.csv"))?.deserialize().collect::<Result<_, _>>()?;
    let median = |sampler: &str, budget: &str| -> Result<f64> {
        let row = rows.iter().find(|row| {
            row["denoiser"] == "ideal"
                && row["end"] == "1.0"
                && row["sampler"] == sampler
                && row["budget"] == budget
        });
        Ok(row.with_context(|| format!("{sampler} {budget}"))?["median"].parse()?)
    };
    // Twice the evaluations: half of Euler's error, about a quarter and less of the others'.
    for (sampler, order) in [("euler", 1.0), ("heun", 2.0), ("dpm_2", 2.0), ("lms", 2.0), ("dpmpp_2m", 2.0)] {
        let fell = (median(sampler, "10")? / median(sampler, "20")?).log2();
        assert!(fell > order - 0.2, "{sampler}: order {fell:.2}");
    }
    assert!(median("dpmpp_2m", "20")? < 0.3 * median("euler", "20")?);
    for row in &rows {
        assert!(row["nfe"].parse::<usize>()? <= row["budget"].parse()?, "{row:?}");
        assert_eq!(row["denoiser"] == "ideal", !row["elsewhere"].is_empty(), "{row:?}");
    }
    let figures = read_json::<RunRecord>(&out.join("run.json"))?.figures;
    assert!(figures["ideal: error of the reference at σ 1"] < 1e-3);
    Ok(())
}

#[test]
fn what_it_has_no_use_for_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    for (options, what) in [
        (["--epochs", "2"], "--epochs is for the experiments that train"),
        (["--reference-steps", "1"], "--reference-steps 1"),
        (["--checkpoint", "/nowhere"], "--checkpoint /nowhere"),
    ] {
        refuses(common::smoke(BINARY, &out).args(options), what);
        assert!(!out.exists(), "{options:?} left a folder behind");
    }
    let mut command = common::smoke(BINARY, &out);
    refuses(command.current_dir(&dir), "`just exp-23-karras` makes one");
    Ok(())
}
