//! The real sweep of real runs of exp-design-space, at smoke size. Needs the data: `just data`.

mod common;

use anyhow::{Context, Result, bail};
use common::{other, refuses};
use elucidate_report::{RunRecord, SampleRow, read_csv, read_curves};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_sweep");

/// Four runs of two settings each.
const FOUR: &str = r#"
experiment = "design_space"
[options]
preset = "smoke"
epochs = 1
samples = 10
setting = ["heun steps=2", "euler 4"]
[axes]
schedule = ["cosine", "cosine tau=0.9"]
seed = [1, 2]
[[charts]]
kind = "heat_map"
x = "seed"
y = "schedule"
figure = "fid"
only = { sampler = "heun" }
name = "heat"
[[charts]]
kind = "lines"
x = "nfe"
lines = ["schedule"]
figure = "kid"
[[charts]]
kind = "heat_map"
x = "schedule"
y = "label"
figure = "fid"
name = "pooled"
[[curves]]
csv = "error_by_sigma"
lines = ["schedule"]
against = "cosine"
"#;

/// The sweep that `text` describes, in the folder `dir`/out; the experiment is built.
fn sweep(dir: &Path, text: &str) -> Result<assert_cmd::Command> {
    other(BINARY, "exp-design-space")?;
    let file = dir.join("file.toml");
    fs::write(&file, text)?;
    let mut command = common::command(BINARY);
    command.arg(&file);
    Ok(command)
}

fn with_out(dir: &Path, text: &str) -> String {
    format!("out = {:?}\n{text}", dir.join("out"))
}

/// The runs of a sweep by their names.
fn records(out: &Path) -> Result<BTreeMap<String, RunRecord>> {
    let mut records = BTreeMap::new();
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        if path.is_dir() {
            let record = RunRecord::read(&path)?;
            records.insert(record.run.clone(), record);
        }
    }
    Ok(records)
}

#[test]
fn a_stopped_sweep_goes_on_and_ends_with_the_tables_of_its_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Long enough that a signal finds them training.
    let (out, text) =
        (dir.path().join("out"), with_out(dir.path(), &FOUR.replace("epochs = 1", "epochs = 6")));
    sweep(dir.path(), &text)?.arg("--plan").assert().success();
    assert!(!out.exists(), "--plan made a folder");

    let mut begun = common::plain(BINARY);
    let mut begun = begun.arg(dir.path().join("file.toml")).stdout(Stdio::null()).spawn()?;
    let start = Instant::now();
    // One run is whole, and another one trains.
    let trains = |run: &RunRecord| run.finished.is_none() && out.join(&run.run).join("checkpoint").exists();
    let is_in_the_middle = || {
        records(&out)
            .is_ok_and(|all| all.values().any(|run| run.finished.is_some()) && all.values().any(trains))
    };
    while !is_in_the_middle() {
        assert!(start.elapsed() < Duration::from_secs(120), "no run ends");
        thread::sleep(Duration::from_millis(20));
    }
    // A second sweep in its folder meanwhile.
    refuses(&mut sweep(dir.path(), &text)?, "another sweep is running");
    Command::new("kill").args(["-INT", &begun.id().to_string()]).status()?;
    assert_eq!(begun.wait()?.code(), Some(130));
    let stopped = records(&out)?;
    assert!(stopped.values().any(|run| run.finished.is_none()), "it stopped between two runs");

    sweep(dir.path(), &text)?.assert().success();
    let whole = records(&out)?;
    assert_eq!(whole.len(), 4);
    for (name, record) in &stopped {
        assert_eq!(record.started, whole[name].started, "{name} was begun again");
        assert_eq!(record.finished.is_none(), !whole[name].resumed.is_empty(), "{name}");
        let trained = |run: &RunRecord| run.seconds.get("training").copied().unwrap_or_default();
        assert!(trained(record) > 0.0 && trained(&whole[name]) >= trained(record), "{name}");
    }
    // The same rows as one of the runs has alone.
    let alone = dir.path().join("alone");
    let mut command = common::smoke(&other(BINARY, "exp-design-space")?, &alone);
    command.args(["--epochs", "6", "--samples", "10", "--setting", "heun steps=2", "--setting", "euler 4"]);
    command.args(["--schedule", "cosine tau=0.9", "--seed", "2"]).assert().success();
    let fids = |rows: Vec<SampleRow>| -> Vec<u64> { rows.iter().map(|row| row.fid.to_bits()).collect() };
    let alone = fids(read_csv(&alone.join("samples.csv"))?);
    let name =
        whole.keys().find(|name| name.contains("tau") && name.contains("seed=2")).context("the run")?;
    assert_eq!(fids(read_csv(&out.join(name).join("samples.csv"))?), alone);

    let mut merged = csv::Reader::from_path(out.join("samples.csv"))?;
    let rows: Vec<BTreeMap<String, String>> = merged.deserialize().collect::<Result<_, _>>()?;
    assert_eq!(rows.len(), 4 * alone.len());
    let ours = rows.iter().filter(|row| row["axis_schedule"] == "cosine tau=0.9" && row["axis_seed"] == "2");
    let ours: Vec<u64> = ours.map(|row| Ok(row["fid"].parse::<f64>()?.to_bits())).collect::<Result<_>>()?;
    assert_eq!(ours, alone);
    let runs: Vec<BTreeMap<String, String>> =
        csv::Reader::from_path(out.join("runs.csv"))?.deserialize().collect::<Result<_, _>>()?;
    assert!(runs.iter().all(|run| !run["finished"].is_empty() && run["test_loss"].parse::<f64>().is_ok()));
    for chart in ["heat.png", "kid_by_nfe_and_schedule.png", "pooled.png", "error_by_sigma.png"] {
        assert!(out.join(chart).exists(), "{chart}");
    }
    intervals_are_those_of_runs(&out, &rows)?;
    // The mean over seeds of one schedule's curves over that of the other's.
    let sum = |schedule: &str| -> Result<Vec<f64>> {
        let mut sum = vec![];
        for name in whole.keys().filter(|name| name.starts_with(&format!("schedule={schedule}_"))) {
            let series = read_curves(&out.join(name).join("error_by_sigma.csv"))?;
            let points = &series.first().context("a line")?.points;
            sum.resize(points.len(), 0.0);
            sum.iter_mut().zip(points).for_each(|(sum, point)| *sum += point.1);
        }
        Ok(sum)
    };
    let (ours, base) = (sum("cosine-tau=0.9")?, sum("cosine")?);
    let [drawn] = &read_curves(&out.join("error_by_sigma.csv"))?[..] else { bail!("one line") };
    assert_eq!((drawn.name.as_str(), drawn.points.len()), ("cosine tau=0.9", 17));
    for ((_, y), (ours, base)) in drawn.points.iter().zip(ours.into_iter().zip(base)) {
        assert!((y / (ours / base) - 1.0).abs() < 1e-12, "{y} is not {ours} over {base}");
    }

    // A changed file runs what is new, and nothing twice.
    let more = text.replace("seed = [1, 2]", "seed = [1, 2, 3]");
    sweep(dir.path(), &more)?.assert().success();
    let now = records(&out)?;
    assert_eq!(now.len(), 6);
    assert!(whole.iter().all(|(name, record)| *record == now[name]));
    Ok(())
}

/// What the charts' CSVs say against the merged `rows`: in a row of runs of their own the scatter is of all places together, of four runs two
/// degrees of freedom; where one run has several places, it is of each alone.
fn intervals_are_those_of_runs(out: &Path, rows: &[BTreeMap<String, String>]) -> Result<()> {
    let of = |column: &str, schedule: &str, label: &str| -> Result<[f64; 2]> {
        let ours = rows.iter().filter(|row| row["axis_schedule"] == schedule && row["label"] == label);
        let values: Vec<f64> = ours.map(|row| row[column].parse()).collect::<Result<_, _>>()?;
        values.try_into().map_err(|values| anyhow::anyhow!("{values:?} are not of two seeds"))
    };
    let check = |file: &str, x: &str, line: &str, mean: f64, half_width: f64| -> Result<()> {
        let drawn: Vec<BTreeMap<String, String>> =
            csv::Reader::from_path(out.join(file))?.deserialize().collect::<Result<_, _>>()?;
        let row = drawn.iter().find(|row| row["x"] == x && row["line"] == line).context("the row")?;
        for (column, expected) in [("mean", mean), ("half_width", half_width)] {
            let found: f64 = row[column].parse()?;
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{file}, {x}, {line}: {column} {found}, not {expected}"
            );
        }
        Ok(())
    };
    // Quantiles of Student's t for one and two degrees of freedom.
    let (one, two) = (12.706_204_736_4, 4.302_652_729_9);
    let square = |[a, b]: [f64; 2]| (a - b).powi(2) / 2.0;
    for label in ["heun 2", "euler 4"] {
        let (a, b) = (of("fid", "cosine", label)?, of("fid", "cosine tau=0.9", label)?);
        let half_width = two * ((square(a) + square(b)) / 2.0 / 2.0).sqrt();
        check("pooled.csv", "cosine", label, (a[0] + a[1]) / 2.0, half_width)?;
    }
    let kid = of("kid", "cosine", "euler 4")?;
    let half_width = one * (square(kid) / 2.0).sqrt();
    check("kid_by_nfe_and_schedule.csv", "4", "schedule cosine", (kid[0] + kid[1]) / 2.0, half_width)
}

#[test]
fn a_run_that_fails_stops_no_other_and_is_told_of() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = FOUR.split("[[charts]]").next().context("the runs")?;
    let text = with_out(dir.path(), &text.replace("seed = [1, 2]", "lr = [1e30, 4e-3]"));
    let mut command = sweep(dir.path(), &text.replace("experiment", "at_once = 2\nexperiment"))?;
    refuses(&mut command, "2 of 4 runs failed");
    let finished = records(&dir.path().join("out"))?.into_values().filter(|record| record.finished.is_some());
    assert_eq!(finished.count(), 2);
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_with_its_line_before_anything_is_written() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = "[options]\npreset = \"smoke\"\n";
    let chart = |more: &str| {
        let chart = format!("[[charts]]\nx = \"n\"\nfigure = \"fid\"\n{more}");
        format!("experiment = \"design_space\"\n{options}[axes]\nseed = [1]\n{chart}\n")
    };
    let axes = |more: &str| format!("experiment = \"design_space\"\n{options}[axes]\n{more}\n");
    for (text, what) in [
        ("experiment = \"dream\"".to_string(), "line 2: there is no experiment \"dream\""),
        ("experiments = \"design_space\"".to_string(), "line 2: unknown field `experiments`"),
        (axes("scedule = [\"cosine\"]"), "line 6: unexpected argument '--scedule'"),
        (axes("schedule = [\"cosine\", \"cosin\"]"), "line 6: --schedule \"cosin\""),
        (axes("schedule = []"), "line 6: schedule: an axis has no values"),
        (axes("preset = [\"smoke\"]"), "line 6: preset is there twice"),
        (axes("no_tmie = [false]"), "line 6: unexpected argument '--no-tmie'"),
        (axes("lr = [false]"), "lr = false, which only flags can be: "),
        (axes("seed = [[]]"), "line 6: seed: an empty list gives no value"),
        (axes("out = [\"a\"]"), "line 6: out: the sweep gives this option itself"),
        (axes("seed = [1, 1]"), "two runs are the same"),
        (axes("[[together]]\nlr = [1e-3, 2e-3]\nepochs = [1]"), "line 8: epochs: 1 values"),
        (axes(&format!("seed = {:?}", (0..101).collect::<Vec<_>>())), "give --yes"),
        (axes("seed = [1]\n[[charts]]\nkind = \"pie\""), "line 8: unknown variant `pie`"),
        (chart("kind = \"heat_map\""), "line 7: a heat map needs y"),
        (chart("kind = \"lines\"\ny = \"n\""), "line 7: lines have no y"),
        (
            chart(
                "kind = \"lines\"\n[[charts]]\nx = \"n\"\nfigure = \"kid\"\nkind = \"lines\"\nname = \"fid by n\"",
            ),
            "line 11: another file is fid_by_n already",
        ),
        (axes("seed = [1]\n[[curves]]\ncsv = \"runs\"\nlines = [\"seed\"]"), "line 7: another file is runs"),
        (
            axes("seed = [1]\n[[curves]]\ncsv = \"loss\"\nlines = [\"lr\"]"),
            "line 7: lines: there is no axis \"lr\"",
        ),
        (axes("seed = [1]\n[[curves]]\ncsv = \"loss\"\nlines = []"), "line 7: lines: name at least one"),
        (
            axes("seed = [1]\nlr = [1e-3, 2e-3]\n[[curves]]\ncsv = \"loss\"\nlines = [\"seed\"]"),
            "line 8: lines: name \"lr\" too",
        ),
        (
            axes("lr = [1e-3, 2e-3]\n[[curves]]\ncsv = \"loss\"\nlines = [\"lr\"]\nagainst = \"1\""),
            "line 7: against: there is no line \"1\": give one of 0.001; 0.002",
        ),
        (format!("at_once = 0\n{}", axes("seed = [1]")), "line 2: at_once is 0"),
    ] {
        let text = with_out(dir.path(), &text);
        refuses(&mut sweep(dir.path(), &text)?, what);
        assert!(!dir.path().join("out").exists(), "{text} left a folder");
    }
    refuses(common::command(BINARY).arg("nowhere.toml"), "cannot read nowhere.toml");
    Ok(())
}

#[test]
fn a_folder_of_something_else_is_not_written_into() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = with_out(dir.path(), &FOUR.replace("seed = [1, 2]", "seed = [7]"));
    let planned = sweep(dir.path(), &text)?.arg("--plan").assert().success();
    let planned = String::from_utf8(planned.get_output().stdout.clone())?;
    let name = planned.split_whitespace().find(|word| word.starts_with("schedule=")).context("a run")?;
    let folder: PathBuf = dir.path().join("out").join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("letter.txt"), "dear")?;
    refuses(&mut sweep(dir.path(), &text)?, "is not a run's folder");
    // A run of other options under that name.
    fs::remove_dir_all(&folder)?;
    common::smoke(&other(BINARY, "exp-design-space")?, &folder).args(["--epochs", "1"]).assert().success();
    refuses(&mut sweep(dir.path(), &text)?, "is another sweep's run");
    Ok(())
}

#[test]
fn without_slurm_it_says_what_is_missing_and_submits_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = with_out(dir.path(), FOUR);
    let mut command = sweep(dir.path(), &text)?;
    refuses(command.arg("--slurm").env("PATH", dir.path()), "there is no scontrol here");
    let alone = sweep(dir.path(), &text)?.args(["--memory", "1G"]).assert().failure();
    alone.stderr(predicates::str::contains("--slurm"));
    refuses(sweep(dir.path(), &text)?.arg("--task"), "SLURM_ARRAY_JOB_ID is not set");
    let status = sweep(dir.path(), &text)?.arg("--status").assert().success();
    let status = String::from_utf8(status.get_output().stdout.clone())?;
    assert!(status.starts_with("4 runs: 0 finished, 0 begun, 4 not begun"), "{status}");
    Ok(())
}

/// A `scontrol` that refuses as long as its folder has no file `said`, which it then makes, and keeps what it was asked.
const SCONTROL: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >> asked
[ -e said ] && exit
: > said
echo "the controller is busy" >&2
exit 1
"#;

#[test]
fn a_task_told_of_its_time_limit_keeps_its_run_and_asks_for_the_queue_until_it_is_heard() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (out, text) =
        (dir.path().join("out"), with_out(dir.path(), &FOUR.replace("epochs = 1", "epochs = 200")));
    let plan = sweep(dir.path(), &text)?.arg("--plan").assert().success();
    let plan = String::from_utf8(plan.get_output().stdout.clone())?;
    let run = plan.lines().next().and_then(|line| line.split_whitespace().last()).context("a run")?;
    fs::create_dir_all(out.join("slurm"))?;
    fs::write(out.join("slurm/jobs.json"), format!(r#"{{"7": ["another", "{run}"]}}"#))?;
    let scontrol = dir.path().join("scontrol");
    fs::write(&scontrol, SCONTROL)?;
    fs::set_permissions(&scontrol, fs::Permissions::from_mode(0o755))?;

    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH")?);
    let mut task = common::plain(BINARY);
    task.arg(dir.path().join("file.toml")).arg("--task").env("PATH", path);
    task.envs([("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_CPUS_PER_TASK", "1")]);
    let mut task = task.stderr(Stdio::null()).spawn()?;
    let start = Instant::now();
    while !out.join(run).join("checkpoint").exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "the task does not train");
        thread::sleep(Duration::from_millis(20));
    }
    // A task that is cancelled is sent SIGTERM, each of its processes by itself: its run is not told a second time.
    for signal in ["-TERM", "-USR1"] {
        Command::new("kill").args([signal, &task.id().to_string()]).status()?;
        thread::sleep(Duration::from_millis(200));
    }
    assert!(task.wait()?.success());
    assert_eq!(fs::read_to_string(dir.path().join("asked"))?, "requeue 7_1\nrequeue 7_1\n");
    assert!(RunRecord::read(&out.join(run))?.finished.is_none());
    assert!(fs::read_to_string(out.join(format!("{run}.stderr")))?.contains("what is written is kept"));
    Ok(())
}

#[test]
fn a_chart_joins_nothing_that_differs_in_more_than_seeds() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let one = FOUR.replace("seed = [1, 2]", "seed = [1]").replace(", \"cosine tau=0.9\"", "");
    // Real images have no setting: whole and spoilt, they differ all the same.
    let real = format!(
        "{one}\n[[charts]]\nkind = \"lines\"\nx = \"n\"\nfigure = \"density\"\nonly = {{ setting = \"\" }}"
    );
    sweep(dir.path(), &with_out(dir.path(), &real))?
        .assert()
        .failure()
        .stderr(predicates::str::contains("sampler \"real\" and \"real_noise_0.05\" would be drawn as one"));
    let text = FOUR.replacen("lines = [\"schedule\"]\n", "", 1);
    sweep(dir.path(), &with_out(dir.path(), &text))?
        .assert()
        .failure()
        .stderr(predicates::str::contains("would be drawn as one"));
    Ok(())
}
