//! The real elucidate's pages of runs, and its list of them.

mod common;

use anyhow::{Context, Result};
use assert_cmd::Command;
use common::{record, sample_row};
use elucidate_report::{
    Picture, RunRecord, SampleRow, Series, TrainRow, picture_grid, save_curves, save_training, write_csv,
    write_json,
};
use roxmltree::Document;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn elucidate(arguments: &[&str], paths: &[&Path]) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_elucidate")).args(arguments).args(paths).assert()
}

/// A run of everything: losses, a chart, scored samples with their picture, pictures of epochs and another one.
fn run(results: &Path, name: &str, fid: f64) -> Result<PathBuf> {
    let folder = results.join("23_karras").join(name);
    fs::create_dir_all(folder.join("samples_by_epoch"))?;
    let record = RunRecord {
        run: name.into(),
        command_line: ["exp-23-karras", "--setting", "heun steps=20", "--out", "elsewhere"]
            .map(String::from)
            .into(),
        options: serde_json::json!({ "settings": { "preset": "quick", "lr": fid } }),
        finished: Some("2026-11-26T01:02:03+00:00".into()),
        ..record()
    };
    write_json(&folder.join("run.json"), &record)?;
    let row = |seed: u64, sampler: &str| SampleRow {
        seed,
        fid: fid + seed as f64,
        sampler: sampler.into(),
        label: Some(format!("{sampler} 20")),
        setting: Some(format!("{sampler} steps=20")),
        ..sample_row()
    };
    write_csv(
        &folder.join("samples.csv"),
        &[row(1, "heun"), row(2, "heun"), row(1, "euler"), row(2, "euler")],
    )?;
    let epoch =
        |epoch: usize| TrainRow { epoch, images: 10 * epoch as u64, test_loss: 0.5, ..TrainRow::default() };
    save_training(&folder, "", &[epoch(1), epoch(2)])?;
    save_curves(&folder, "sampling_sigma", &[Series::line("20 steps", vec![(0.0, 80.0), (1.0, 0.1)])])?;
    let picture = [Picture::from_range(&[0.0; 64], 8, -1.0, 1.0)];
    for name in ["samples_heun_20.png", "samples_by_epoch/epoch_001.png", "noised_and_targets.png"] {
        picture_grid(&folder.join(name), &picture, 1, &[])?;
    }
    Ok(folder)
}

/// The page's text, which is well formed also as XML.
fn page(path: &Path) -> Result<String> {
    let html = fs::read_to_string(path)?;
    let elements = html.strip_prefix("<!doctype html>").context("a doctype")?;
    Document::parse(elements).with_context(|| format!("{} is not well formed", path.display()))?;
    Ok(html.replace("&#x2f;", "/"))
}

#[test]
fn a_page_holds_all_that_a_run_has_and_loads_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = run(dir.path(), "a<b> & \"c\"", 100.0)?;
    elucidate(&["report"], &[&run]).success();
    let html = page(&run.join("report.html"))?;
    // The names of SVG's and its like are no addresses that are loaded.
    let loaded = html.replace("http://www.w3.org/", "");
    assert!(!loaded.contains("http") && !html.contains("<script") && !html.contains("<link"));
    assert!(html.contains("a&lt;b&gt; &amp; &quot;c&quot;") && !html.contains("a<b>"));
    for text in [
        "finished 2026-11-26",
        "2 epochs, 20 images",
        "101.5 ±",
        "just exp-23-karras --setting &#x27;heun steps=20&#x27;</pre>",
        "aria-label=\"Noise levels of sampling\"",
        "aria-label=\"Loss by epoch\"",
        "aria-label=\"FID by sampler",
        "alt=\"the first samples of heun 20\"",
        "alt=\"epoch 001\"",
        "alt=\"noised and targets\"",
    ] {
        assert!(html.contains(text), "no {text}");
    }
    // The charts' PNGs are there as SVG, and no picture twice.
    assert_eq!(html.matches("data:image/png;base64,").count(), 3);
    Ok(())
}

#[test]
fn runs_stand_side_by_side_with_the_options_in_which_they_differ() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (a, b) = (run(dir.path(), "a", 100.0)?, run(dir.path(), "b", 200.0)?);
    let out = dir.path().join("both.html");
    let out_option = out.display().to_string();
    elucidate(&["report", "--out", &out_option], &[&a, &b]).success();
    let html = page(&out)?;
    assert!(html.contains("<tr><th>lr</th><td>100.0</td><td>200.0</td></tr>"));
    assert!(!html.contains("<tr><th>preset</th>"));
    assert!(html.contains("23_karras/a: FID 101.5 ±") && html.contains("23_karras/b: FID 201.5 ±"));
    assert!(html.contains("aria-label=\"Loss on the test images\""));

    // Runs that cannot be compared are shown all the same, and it is said why their samples are not.
    let mut rows: Vec<SampleRow> = elucidate_report::read_csv(&b.join("samples.csv"))?;
    rows.iter_mut().for_each(|row| row.classifier_sha256 = "another".into());
    write_csv(&b.join("samples.csv"), &rows)?;
    elucidate(&["report", "--out", &out_option], &[&a, &b]).success();
    assert!(page(&out)?.contains("Their samples cannot be compared: "));
    Ok(())
}

#[test]
fn a_run_that_is_not_finished_says_so_and_how_to_go_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = run(dir.path(), "a", 100.0)?;
    write_json(&run.join("run.json"), &RunRecord { command_line: vec!["exp-23-karras".into()], ..record() })?;
    let lock = File::create(run.join(".lock"))?;
    let state = || -> Result<String> {
        elucidate(&["report"], &[&run]).success();
        page(&run.join("report.html"))
    };
    assert!(state()?.contains("it was stopped, and --resume goes on"));
    assert!(state()?.contains(&format!("just exp-23-karras --resume {}", run.display())));
    lock.lock()?;
    assert!(state()?.contains("under way: this is how far it is"));
    Ok(())
}

#[test]
fn what_is_no_run_or_damaged_is_named_and_no_page_is_left() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = run(dir.path(), "a", 100.0)?;
    let refuses = |what: &str| {
        let output = elucidate(&["report"], &[&run]).failure().get_output().stderr.clone();
        let text = String::from_utf8_lossy(&output).into_owned();
        assert!(text.starts_with("error: ") && text.lines().count() == 1 && text.contains(what), "{text}");
        assert!(!run.join("report.html").exists());
    };
    let samples = run.join("samples_heun_20.png");
    let whole = fs::read(&samples)?;
    fs::write(&samples, &whole[..whole.len() / 2])?;
    refuses("samples_heun_20.png is damaged");
    fs::write(&samples, whole)?;
    fs::write(run.join("train.csv"), "epoch,step\n1,x\n")?;
    refuses("train.csv");
    fs::write(run.join("run.json"), "{")?;
    refuses("run.json");
    fs::remove_file(run.join("run.json"))?;
    refuses("run.json");
    elucidate(&["report"], &[]).failure();
    elucidate(&["report"], &[&run, &run]).failure();
    Ok(())
}

#[test]
fn the_list_has_each_run_with_its_best_setting_and_names_what_is_damaged() -> Result<()> {
    let dir = tempfile::tempdir()?;
    run(dir.path(), "later", 200.0)?;
    let damaged = run(dir.path(), "damaged", 100.0)?;
    fs::write(damaged.join("run.json"), "{")?;
    let output = elucidate(&["list"], &[dir.path()]).success().get_output().stdout.clone();
    let text = String::from_utf8(output)?;
    let line = text.lines().find(|line| line.contains("23_karras/later")).context("a line for the run")?;
    for part in ["quick", "0.5000", "201.5 ±", "heun 20"] {
        assert!(line.contains(part), "{line}");
    }
    let last = text.lines().last().context("a last line")?;
    assert!(last.contains("23_karras/damaged") && last.contains("run.json is damaged"), "{last}");
    Ok(())
}
