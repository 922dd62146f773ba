//! Files from outside that are damaged or meant ill: read rightly or refused in one line that names them, and nothing is
//! written but what was asked for. `ELUCIDATE_FUZZ_CASES=5000 cargo test …` tries more of them.

#[path = "common/committed.rs"]
mod committed;
mod common;
#[path = "../../../tests/common/mutations.rs"]
mod mutations;

use anyhow::{Result, ensure};
use assert_cmd::Command;
use committed::{committed, name};
use common::{record, sample_row};
use elucidate_report::{
    Chart, LineChart, Role, RunRecord, SampleRow, Scale, ScoredRun, Series, TrainRow, compare_runs,
    compare_settings, difference_chart, draw_charts, draw_samples, fid_by_rho, fid_by_sampler, read_csv,
    read_file, write_csv, write_json,
};
use mutations::try_mutations;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

/// Whether it succeeded; where not, the error must be one line that a terminal can show and that names `what`.
fn outcome<T>(result: Result<T>, what: &str) -> Result<bool> {
    let Err(error) = result else { return Ok(true) };
    let line = format!("{error:#}");
    ensure!(!line.contains(char::is_control), "more than a line: {line:?}");
    ensure!(line.contains(what), "{what} is not named: {line}");
    Ok(false)
}

/// Runs `read` on a folder in which `path`'s name has these bytes and run.json is a run's.
fn in_folder(path: &Path, bytes: &[u8], read: impl Fn(&Path) -> Result<bool>) -> Result<bool> {
    let dir = tempfile::tempdir()?;
    let run = dir.path().join("run");
    fs::create_dir(&run)?;
    fs::write(run.join("run.json"), serde_json::to_vec(&record())?)?;
    fs::write(run.join(name(path)), bytes)?;
    let was_read = read(&run)?;
    ensure!(fs::read_dir(dir.path())?.count() == 1, "something was written beside the folder");
    Ok(was_read)
}

#[test]
fn a_damaged_run_json_is_refused_or_read() -> Result<()> {
    let files = committed(|path| name(path) == "run.json")?;
    try_mutations("run.json", 400, &files, |path, bytes| {
        in_folder(path, bytes, |run| outcome(RunRecord::read(run), "run.json"))
    })
}

#[test]
fn a_damaged_train_csv_is_refused_or_drawn() -> Result<()> {
    let files = committed(|path| name(path).starts_with("train") && name(path).ends_with(".csv"))?;
    let files: Vec<_> = files.into_iter().filter(|file| !name(&file.0).starts_with("training")).collect();
    try_mutations("train.csv", 300, &files, |path, bytes| {
        in_folder(path, bytes, |run| outcome(draw_charts(run), name(path)))
    })
}

#[test]
fn a_damaged_csv_of_a_chart_is_refused_or_drawn() -> Result<()> {
    let is_chart = |path: &Path| {
        let others = ["train.csv", "train_alpha_bar.csv", "samples.csv"];
        path.extension().is_some_and(|extension| extension == "csv")
            && path.with_extension("png").exists()
            && !others.contains(&name(path))
    };
    try_mutations("charts' CSV", 500, &committed(is_chart)?, |path, bytes| {
        in_folder(path, bytes, |run| outcome(draw_charts(run), name(path)))
    })
}

/// Does all that can be done with a scored run, alone and beside another one.
fn use_scored(run: &Path, other: &ScoredRun) -> Result<bool> {
    let scored = match ScoredRun::read(run) {
        Ok(scored) => scored,
        refused => return outcome(refused, "samples.csv"),
    };
    let png = run.join("picture.png");
    outcome(draw_samples(run), "samples.csv")?;
    if let Ok(differences) = compare_settings(&scored, None)
        && !differences.is_empty()
    {
        difference_chart(&differences).save(&png)?;
    }
    let both = [other.clone(), scored];
    if let Ok(differences) = compare_runs(&both) {
        difference_chart(&differences).save(&png)?;
    }
    if let Some(chart) = fid_by_sampler(&both) {
        chart.save(&png)?;
    }
    if let Some(chart) = fid_by_rho(&both) {
        outcome(chart.save(&png), "")?;
    }
    Ok(true)
}

#[test]
fn a_damaged_samples_csv_is_refused_or_compared_and_drawn() -> Result<()> {
    // The merged table of a sweep has no run.json.
    let files = committed(|path| name(path) == "samples.csv" && path.with_file_name("run.json").exists())?;
    let others: Vec<_> = files.iter().filter_map(|file| ScoredRun::read(file.0.parent()?).ok()).collect();
    try_mutations("samples.csv", 300, &files, |path, bytes| {
        in_folder(path, bytes, |run| use_scored(run, &others[bytes.len() % others.len()]))
    })
}

/// Runs the real elucidate; whether it succeeded. It may fail, but in one line and by itself.
fn elucidate(arguments: &[&Path]) -> Result<bool> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_elucidate"));
    let output = command.args(arguments).timeout(Duration::from_secs(60)).output()?;
    let error = String::from_utf8(output.stderr)?;
    if output.status.success() {
        ensure!(error.is_empty(), "{error}");
        return Ok(true);
    }
    ensure!(output.status.code() == Some(1), "{:?}: {error}", output.status);
    let line = error.strip_suffix('\n').unwrap_or(&error);
    ensure!(line.starts_with("error: ") && !line.contains(char::is_control), "{line:?}");
    Ok(false)
}

#[test]
fn the_program_survives_damaged_runs() -> Result<()> {
    let is_whole =
        |path: &Path| ["samples.csv", "run.json"].iter().all(|file| path.with_file_name(file).exists());
    let files = committed(|path| ["samples.csv", "run.json"].contains(&name(path)))?;
    let files: Vec<_> = files.into_iter().filter(|file| is_whole(&file.0)).collect();
    try_mutations("elucidate", 80, &files, |path, bytes| {
        let dir = tempfile::tempdir()?;
        let (run, out) = (dir.path().join("run"), dir.path().join("out"));
        fs::create_dir(&run)?;
        fs::create_dir(&out)?;
        for file in ["run.json", "samples.csv"] {
            fs::copy(path.with_file_name(file), run.join(file))?;
        }
        fs::write(run.join(name(path)), bytes)?;
        let original = path.with_file_name("");
        let (comparison, picture) = (out.join("comparison"), out.join("picture.png"));
        let [compare, out_is] = ["compare", "--out"].map(Path::new);
        let compared = elucidate(&[compare, &run, out_is, &comparison])?;
        elucidate(&[compare, &original, &run, out_is, &comparison])?;
        elucidate(&[Path::new("plots"), &run])?;
        for command in ["plot-rho", "plot-samplers"] {
            elucidate(&[Path::new(command), &original, &run, out_is, &picture])?;
        }
        ensure!(fs::read_dir(dir.path())?.count() == 2, "something was written beside the folders");
        Ok(compared)
    })
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_by_its_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    Command::new("mkfifo").arg(at("pipe")).assert().success();
    fs::create_dir(at("folder"))?;
    symlink("/dev/zero", at("device"))?;
    symlink("nowhere", at("dangling"))?;
    symlink("loop", at("loop"))?;
    symlink("pipe", at("to-pipe"))?;
    for name in ["pipe", "folder", "device", "dangling", "loop", "to-pipe", "missing"] {
        ensure!(!outcome(read_file(&at(name)), name)?, "{name} was read");
        for file in ["run.json", "samples.csv", "train.csv", "sampling_sigma.csv"] {
            let run = at(&format!("run-{name}-{file}"));
            fs::create_dir(&run)?;
            write_json(&run.join("run.json"), &record())?;
            fs::remove_file(run.join(file))
                .or_else(|error| if file == "run.json" { Err(error) } else { Ok(()) })?;
            symlink(at(name), run.join(file))?;
            ensure!(!elucidate(&[Path::new("plots"), &run])?, "{file} → {name} was drawn");
        }
    }
    // One that was left out is none; a link to a regular file is as good as the file.
    let run = at("run");
    fs::create_dir(&run)?;
    write_json(&at("record"), &record())?;
    symlink("../record", run.join("run.json"))?;
    assert_eq!(RunRecord::read(&run)?, record());
    assert!(elucidate(&[Path::new("plots"), &run])?);
    Ok(())
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("large.csv");
    fs::File::create(&path)?.set_len(1 << 40)?;
    assert!(!outcome(read_csv::<SampleRow>(&path), "large.csv: it has more than 67108864 bytes")?);
    Ok(())
}

#[test]
fn names_that_look_like_paths_lead_nowhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (run, out) = (dir.path().join("results/experiment/run"), dir.path().join("out"));
    fs::create_dir_all(&run)?;
    fs::create_dir(&out)?;
    let outside = "../../x".to_string();
    let to_root = dir.path().join("y").display().to_string();
    let named = RunRecord { run: outside.clone(), experiment: to_root.clone(), ..record() };
    write_json(&run.join("run.json"), &named)?;
    let row = |seed, sampler: &str| SampleRow {
        run: outside.clone(),
        experiment: to_root.clone(),
        sampler: sampler.into(),
        variant: Some(outside.clone()),
        classes: Some("1-1-1-1-1-1-1-1-1-1".into()),
        seed,
        ..sample_row()
    };
    let swept = SampleRow { rho: Some(1.0), ..row(1, "../z") };
    let rows = [row(1, "../heun"), row(2, "../heun"), row(1, "/euler"), row(1, "../z"), swept];
    write_csv(&run.join("samples.csv"), &rows)?;
    fs::write(run.join("sampling_sigma.csv"), "series,role,x,y,std_err\n../x,line,1,2,\n/y,line,1,2,\n")?;
    let [plots, compare, plot_rho, plot_samplers, out_is] =
        ["plots", "compare", "plot-rho", "plot-samplers", "--out"].map(Path::new);
    assert!(elucidate(&[plots, &run])?);
    assert!(elucidate(&[compare, &run, out_is, &out.join("comparison")])?);
    let twin = dir.path().join("twin");
    fs::create_dir(&twin)?;
    for file in ["run.json", "samples.csv"] {
        fs::copy(run.join(file), twin.join(file))?;
    }
    assert!(elucidate(&[compare, &run, &twin, out_is, &out.join("comparison")])?);
    assert!(elucidate(&[plot_rho, &run, out_is, &out.join("rho.png")])?);
    assert!(elucidate(&[plot_samplers, &run, out_is, &out.join("samplers.png")])?);
    let files = |folder: &Path| -> Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    assert_eq!(files(dir.path())?, ["out", "results", "twin"]);
    assert_eq!(files(&dir.path().join("results"))?, ["experiment"]);
    assert_eq!(files(&dir.path().join("results/experiment"))?, ["run"]);
    assert_eq!(
        files(&out)?,
        ["comparison.csv", "comparison.png", "comparison.svg", "rho.png", "samplers.png"]
    );
    let charts = ["classes", "fid_by_rho", "fid_by_sampler", "sampling_sigma"];
    let mut expected: Vec<String> =
        charts.iter().flat_map(|name| [format!("{name}.png"), format!("{name}.svg")]).collect();
    expected.extend(["run.json", "samples.csv", "sampling_sigma.csv"].map(String::from));
    expected.sort();
    assert_eq!(files(&run)?, expected);
    Ok(())
}

#[test]
fn ranges_that_f64_cannot_divide_are_drawn_flat_or_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("chart.png");
    let values = [0.0, 5e-324, 1e-323, 1e-300, 1e-160, 1e-17, 1.0, 1e17, 1e17 + 16.0, 1e100, 1e200, 1e308];
    let values: Vec<f64> = values.iter().flat_map(|&value| [value, -value]).collect();
    let (mut drawn, mut refused) = (0, 0);
    for (i, &a) in values.iter().enumerate() {
        for &b in &values[i..] {
            for (x_scale, y_scale) in
                [(Scale::Linear, Scale::Log), (Scale::Log, Scale::Linear), (Scale::SymLog, Scale::SymLog)]
            {
                let points = vec![(a, b), (b, a), (0.5, 0.5)];
                let line = Series::with_half_widths("line", points.clone(), vec![a, f64::NAN, b]);
                let shade = Series { role: Role::Shade, ..Series::line("shade", points[..2].to_vec()) };
                let bars = Series { role: Role::Bars, ..Series::line("bars", points[..2].to_vec()) };
                for series in [vec![line], vec![Series::line("a", vec![(a, b); 2]), shade], vec![bars]] {
                    let chart = LineChart { x_scale, y_scale, ..LineChart::new("T", "x", "y", series) };
                    match outcome(chart.save(&path), "")? {
                        true => drawn += 1,
                        false => refused += 1,
                    }
                }
            }
        }
    }
    println!("ranges: {drawn} drawn, {refused} refused");
    assert!(drawn > 300 && refused > 300, "{drawn} drawn, {refused} refused");
    Ok(())
}

/// samples.csv with these rows is refused, and says `what`.
fn refused(rows: &[SampleRow], what: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_json(&dir.path().join("run.json"), &record())?;
    write_csv(&dir.path().join("samples.csv"), rows)?;
    let error = ScoredRun::read(dir.path()).err().map_or_else(String::new, |error| format!("{error:#}"));
    ensure!(error.contains("samples.csv") && error.contains(what), "{error:?} does not say {what}");
    Ok(())
}

#[test]
fn rows_that_would_be_counted_wrongly_are_refused() -> Result<()> {
    let row = sample_row;
    refused(&[row(), row()], "heun 20 s_churn=0.5 has two rows of seed 3")?;
    refused(&[SampleRow { fid: f64::NAN, ..row() }], "row 1: fid is NaN")?;
    refused(&[row(), SampleRow { kid: 1e308, ..row() }], "row 2: kid is 1e308")?;
    refused(&[SampleRow { rho: Some(f64::INFINITY), ..row() }], "rho is inf")?;
    refused(&[SampleRow { kid_subsets_std_err: -1.0, ..row() }], "kid_subsets_std_err is -1")?;
    for classes in ["1-2-3", "0-0-0-0-0-0-0-0-0-0", "1-2-3-4-5-6-7-8-9-NaN", "1-2-3-4-5-6-7-8-9-10-11"] {
        refused(&[SampleRow { classes: Some(classes.into()), ..row() }], "not ten counts")?;
    }
    refused(&[SampleRow { sampler: "x".repeat(16_001), ..row() }], "line 2: a text of 16001 bytes")?;
    refused(&[SampleRow { run: "a\nb".into(), ..row() }], "control character in \"a\\nb\"")?;
    let many: Vec<SampleRow> = (0..10_001).map(|seed| SampleRow { seed, ..row() }).collect();
    refused(&many, "10001 rows, more than 10000")?;
    // A column that no row has, a number that is none, nothing at all.
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("samples.csv");
    write_csv(&path, &[row()])?;
    fs::write(&path, fs::read_to_string(&path)?.replacen(",fid,", ",fig,", 1))?;
    assert!(!outcome(read_csv::<SampleRow>(&path), "line 2: missing field `fid`")?);
    fs::write(
        &path,
        "epoch,step,images,lr,train_loss,test_loss,images_per_second,seconds\n1,1,1,x,1,1,1,1\n",
    )?;
    assert!(!outcome(read_csv::<TrainRow>(&path), "line 2, column lr: ")?);
    fs::write(&path, "")?;
    assert!(!outcome(
        read_csv::<SampleRow>(&path),
        "samples.csv is damaged or of another kind: it has no header"
    )?);
    Ok(())
}

#[test]
fn many_rows_are_compared_in_reasonable_time_and_are_no_picture() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let row = |steps| SampleRow { steps: Some(steps), ..sample_row() };
    let rows: Vec<SampleRow> = (0..10_000).map(row).collect();
    write_csv(&dir.path().join("samples.csv"), &rows)?;
    write_json(&dir.path().join("run.json"), &record())?;
    assert!(!outcome(draw_samples(dir.path()), "samples.csv: a picture of")?);
    let scored = ScoredRun::read(dir.path())?;
    let differences = compare_runs(&[scored.clone(), scored])?;
    assert_eq!(differences.len(), rows.len());
    assert!(!outcome(difference_chart(&differences).save(&dir.path().join("x.png")), "a picture of")?);
    Ok(())
}

#[test]
fn an_error_stays_with_its_point() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let draw = |csv: &str| -> Result<Vec<u8>> {
        fs::write(dir.path().join("fid_by_n.csv"), csv)?;
        draw_charts(dir.path())?;
        Ok(fs::read(dir.path().join("fid_by_n.png"))?)
    };
    let second = draw("series,role,x,y,std_err\na,line,0,1,\na,line,1,2,0.5\na,line,2,3,\n")?;
    let first = draw("series,role,x,y,half_width\na,line,0,1,0.5\na,line,1,2,\na,line,2,3,\n")?;
    assert!(first != second);
    Ok(())
}
