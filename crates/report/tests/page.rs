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
    for name in ["samples_heun_20.png", "samples_by_epoch/epoch_0001.png", "noised_and_targets.png"] {
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
        "alt=\"epoch 0001\"",
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
fn runs_of_one_name_are_told_apart_and_losses_of_two_experiments_are_not_drawn_as_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (a, b) = (run(&dir.path().join("here"), "a", 100.0)?, run(&dir.path().join("there"), "a", 200.0)?);
    let out = dir.path().join("both.html");
    let out_option = out.display().to_string();
    elucidate(&["report", "--out", &out_option], &[&a, &b]).success();
    let html = page(&out)?;
    assert!(html.contains("<th>23_karras/a (here)</th><th>23_karras/a (there)</th>"));
    assert!(html.contains("23_karras/a (there): FID 201.5 ±"));

    let record = RunRecord { experiment: "22_cosine".into(), run: "a".into(), ..record() };
    write_json(&b.join("run.json"), &record)?;
    elucidate(&["report", "--out", &out_option], &[&a, &b]).success();
    assert!(!page(&out)?.contains("aria-label=\"Loss on the test images\""));
    Ok(())
}

#[test]
fn pictures_of_older_names_are_found_and_commands_are_quoted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = run(dir.path(), "a", 100.0)?;
    let mut rows: Vec<SampleRow> = elucidate_report::read_csv(&run.join("samples.csv"))?;
    rows.iter_mut().for_each(|row| row.label = row.label.take().map(|label| format!("{label} s_churn=0.5")));
    write_csv(&run.join("samples.csv"), &rows)?;
    fs::rename(run.join("samples_heun_20.png"), run.join("samples_heun_20_churn_0.5.png"))?;
    let revision = "0123456789abcdef; echo #-dirty";
    let finished = Some("2026-11-26T01:02:03+00:00".into());
    write_json(&run.join("run.json"), &RunRecord { git_revision: revision.into(), finished, ..record() })?;
    elucidate(&["report"], &[&run]).success();
    let html = page(&run.join("report.html"))?;
    assert!(html.contains("alt=\"the first samples of heun 20 s_churn=0.5\""));
    assert!(html.contains("git checkout &#x27;0123456789abcdef; echo #&#x27;  # Its files differed"));
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
    elucidate(&["report", "--out", "page.txt"], &[&run]).failure();
    elucidate(&["report"], &[&run, &run]).failure();
    Ok(())
}

#[test]
fn the_list_has_each_run_with_its_best_setting_and_names_what_is_damaged() -> Result<()> {
    let dir = tempfile::tempdir()?;
    run(dir.path(), "later", 200.0)?;
    // A sweep's runs are a folder further down.
    run(&dir.path().join("sweeps"), "of-a-sweep", 300.0)?;
    let list = || elucidate(&["list"], &[dir.path()]);
    let text = String::from_utf8(list().success().get_output().stdout.clone())?;
    let line = text.lines().find(|line| line.contains("23_karras/later")).context("a line for the run")?;
    for part in ["quick", "0.5000", "201.5 ±", "heun 20"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(text.contains("sweeps/23_karras/of-a-sweep"), "{text}");

    let damaged = run(dir.path(), "damaged", 100.0)?;
    fs::write(damaged.join("run.json"), "{")?;
    let output = list().failure().get_output().clone();
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("23_karras/damaged") && error.contains("run.json is damaged"), "{error}");
    assert!(String::from_utf8(output.stdout)?.contains("23_karras/later"));
    let empty = tempfile::tempdir()?;
    elucidate(&["list"], &[empty.path()]).failure();
    Ok(())
}

#[test]
fn what_is_there_and_no_file_is_not_written_over() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = run(dir.path(), "a", 100.0)?;
    let refuses = |out: &Path, what: &str| {
        let out = out.display().to_string();
        let output = elucidate(&["report", "--out", &out], &[&run]).failure().get_output().stderr.clone();
        let text = String::from_utf8_lossy(&output).into_owned();
        assert!(text.contains(what) && text.lines().count() == 1, "{text}");
    };
    let folder = dir.path().join("folder.html");
    fs::create_dir(&folder)?;
    refuses(&folder, "it is not a regular file");
    refuses(&dir.path().join("none/page.html"), "there is no folder");
    assert_eq!(fs::read_dir(dir.path())?.count(), 2, "something is left");
    // Through a link the file is written that it leads to.
    let (file, link) = (dir.path().join("file.html"), dir.path().join("link.html"));
    fs::write(&file, "old")?;
    std::os::unix::fs::symlink(&file, &link)?;
    elucidate(&["report", "--out", &link.display().to_string()], &[&run]).success();
    assert!(link.is_symlink() && page(&file)?.contains("heun 20"));
    let samples = run.join("samples");
    for command in ["compare", "components"] {
        let out = samples.display().to_string();
        elucidate(&[command, "--out", &out], &[&run]).failure();
    }
    Ok(())
}

#[test]
fn every_command_has_help_and_shells_have_completions() -> Result<()> {
    for command in ["list", "compare", "components", "check-errors", "report", "plots", "plot-rho"] {
        elucidate(&[command, "--help"], &[]).success();
        elucidate(&[command, "-h"], &[]).success();
    }
    let complete = |shell: &str, arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_elucidate")).env("COMPLETE", shell).args(arguments).assert()
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = complete(shell, &[]).success().get_output().stdout.clone();
        assert!(String::from_utf8(script)?.contains("check-errors"), "{shell}");
    }
    complete("tcsh", &[]).failure();
    for no_shell in ["", "0"] {
        complete(no_shell, &["--version"]).success();
    }
    complete("bash", &["--version"]).success().stdout(predicates::str::contains("elucidate"));
    Ok(())
}
