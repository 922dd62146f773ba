//! What a sweep will do: which of its runs are there, which are to be made, and about how long that takes.

use crate::description::{PlannedRun, Sweep};
use anyhow::{Context, Result, bail, ensure};
use elucidate_report::{RunRecord, is_taken, is_there};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no folder yet.
    Missing,
    /// It was begun and not finished.
    Stopped,
    /// It is whole.
    Finished,
}

/// The experiments' binaries, which are beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program is cannot be found out")?;
    Ok(own.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// The binary of the sweep's experiment.
///
/// # Errors
/// When there is no such experiment, or it is not built.
pub fn binary(sweep: &Sweep) -> Result<PathBuf> {
    const EXPERIMENTS: [&str; 6] =
        ["22_cosine", "22_noise_pred", "22_no_t", "23_karras", "design_space", "truncation"];
    ensure!(
        EXPERIMENTS.contains(&sweep.experiment.as_str()),
        "{}: there is no experiment {:?}: give one of {}",
        sweep.place_of_experiment(),
        sweep.experiment,
        EXPERIMENTS.join(", ")
    );
    let name = format!("exp-{}", sweep.experiment.replace('_', "-"));
    let path = beside(&name)?;
    ensure!(
        path.is_file(),
        "{} is not there: build it with `cargo build --release -p {name}`",
        path.display()
    );
    Ok(path)
}

/// What the options of a run come to, as far as its time depends on them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Cost {
    settings: CostSettings,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct CostSettings {
    blocks: Vec<usize>,
    layers_per_block: usize,
    attention: Vec<usize>,
    epochs: usize,
    train_images: usize,
    samples: usize,
    seeds: u64,
}

/// Asks the experiment what the options of a run come to, and whether what it leaves out are flags.
///
/// # Errors
/// When it refuses them: its own line, behind the place of the option that it names.
pub fn check(sweep: &Sweep, binary: &Path, run: &PlannedRun) -> Result<Cost> {
    for flag in &run.off {
        let with_flag = [run.options.as_slice(), &[format!("--{flag}")]].concat();
        dry_run(sweep, binary, &with_flag)
            .with_context(|| format!("{flag} = false, which only flags can be"))?;
    }
    let printed = dry_run(sweep, binary, &run.options)?;
    serde_json::from_slice(&printed).with_context(|| format!("{} --dry-run", binary.display()))
}

/// What the experiment prints of options.
fn dry_run(sweep: &Sweep, binary: &Path, options: &[String]) -> Result<Vec<u8>> {
    let mut command = Command::new(binary);
    command.args(options).arg("--dry-run").env_remove("RUST_BACKTRACE");
    let output = command.output().with_context(|| format!("cannot run {}", binary.display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let error = stderr.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it fails");
    let named = error.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let option = named.into_iter().find_map(|word| word.strip_prefix("--")).unwrap_or_default();
    bail!("{}: {error}", sweep.place_of(option))
}

/// How far a run is.
///
/// # Errors
/// When its folder holds something else.
pub fn state(sweep: &Sweep, run: &PlannedRun) -> Result<State> {
    let folder = sweep.folder(run);
    if !is_there(&folder.join("run.json")) {
        ensure!(
            !is_taken(&folder),
            "{} holds files and is not a run's folder: move it away",
            folder.display()
        );
        return Ok(State::Missing);
    }
    let record = RunRecord::read(&folder)?;
    let ours = record.experiment == sweep.experiment
        && run.of_figures().all(|option| record.command_line.contains(option));
    ensure!(ours, "{} is another sweep's run: give this one another `out`", folder.display());
    Ok(if record.finished.is_some() { State::Finished } else { State::Stopped })
}

/// About how many seconds a run takes with so many threads: as long as the newest one among `finished` of the same network, by the images
/// that both train on and sample, and by their threads. Nothing where there is none.
pub fn seconds(cost: &Cost, threads: usize, finished: &[RunRecord]) -> Option<f64> {
    let Cost { settings: ours } = cost;
    finished.iter().rev().find_map(|record| {
        let theirs: CostSettings = serde_json::from_value(record.options.get("settings")?.clone()).ok()?;
        let alike = theirs.blocks == ours.blocks
            && theirs.layers_per_block == ours.layers_per_block
            && theirs.attention == ours.attention;
        let trained = record.seconds.get("training").copied().filter(|_| alike)?;
        let others = record.seconds.values().sum::<f64>() - trained;
        let images = |settings: &CostSettings| (settings.epochs * settings.train_images) as f64;
        let samples = |settings: &CostSettings| settings.samples as f64 * settings.seeds as f64;
        let estimate = trained * images(ours) / images(&theirs) + others * samples(ours) / samples(&theirs);
        let estimate = estimate * record.threads as f64 / threads as f64;
        estimate.is_finite().then_some(estimate)
    })
}

/// The records of finished runs of the experiment, in results/ and in `folder`, the newest last.
pub fn finished(experiment: &str, folder: &Path) -> Vec<RunRecord> {
    let records = |folder: &Path| -> Vec<RunRecord> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let all = entries.filter_map(|entry| RunRecord::read(&entry.path()).ok());
        all.filter(|record| record.finished.is_some() && record.experiment == experiment).collect()
    };
    let mut all = [records(&Path::new("results").join(experiment)), records(folder)].concat();
    all.sort_by(|a, b| a.finished.cmp(&b.finished));
    all
}
