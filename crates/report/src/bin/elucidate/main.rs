//! Compares runs and draws their charts again, from their CSVs alone.

mod list;
mod table;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use elucidate_report::terminal::{self, say};
use elucidate_report::{
    Chart, RunRecord, ScoredRun, Summary, check_comparable, compare_runs, compare_settings, components,
    difference_chart, draw_charts, fid_by_rho, fid_by_sampler, is_there, write_csv, write_page,
};
use rayon::prelude::*;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compare runs, and draw their charts again: from the CSVs in their folders, without a model.
#[derive(Debug, Parser)]
#[command(name = "elucidate", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The runs of a folder: when, how trained, their loss, the setting with the best FID
    List {
        /// The folder of the experiments' folders
        #[arg(default_value = "results")]
        results: PathBuf,
    },

    /// Which settings of runs differ from the first run's by more than their 95 % interval; of one run, its settings
    Compare {
        /// The runs' folders; the first is what the others are compared with
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,

        /// Compare the settings of one run with this one, as in "heun 50" [default: its first]
        #[arg(long, value_name = "SETTING")]
        against: Option<String>,

        /// Where the table and its chart are written: OUT.csv, OUT.png and OUT.svg
        #[arg(long, default_value = "results/comparison")]
        out: PathBuf,
    },

    /// Whether the errors of FID and KID within a seed are what seeds scatter by; tells something from about 20 seeds on
    CheckErrors {
        /// The run's folder
        #[arg(value_name = "RUN")]
        run: PathBuf,
    },

    /// What FID is moved by: another training, another seed of sampling, the rest; and which settings differ over both
    Components {
        /// The folders of runs that differ in the seed of training alone, each sampled with the same seeds
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,

        /// Compare the settings with this one, as in "heun 50" [default: the first]
        #[arg(long, value_name = "SETTING")]
        against: Option<String>,

        /// Where the table is written
        #[arg(long, default_value = "results/components.csv", value_name = "FILE")]
        out: PathBuf,
    },

    /// Draw every chart of runs again
    Plots {
        /// The runs' folders [default: all in results/]
        #[arg(value_name = "RUN")]
        runs: Vec<PathBuf>,
    },

    /// A page about a run, or about several side by side: one HTML file that needs nothing else
    Report {
        /// The runs' folders
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,

        /// The page [default: report.html in the folder of the one run, results/report.html of several]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },

    /// FID by ρ of any number of runs in one picture
    PlotRho {
        #[command(flatten)]
        picture: Picture,
    },

    /// FID by sampler of any number of runs in one picture
    PlotSamplers {
        #[command(flatten)]
        picture: Picture,
    },
}

#[derive(Debug, clap::Args)]
struct Picture {
    /// The runs' folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,

    /// The picture, NAME.png or NAME.svg [default: results/fid_by_rho.png or results/fid_by_sampler.png]
    #[arg(long, value_name = "PICTURE")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    terminal::main(|options: &Options| run(options).map(|()| ExitCode::SUCCESS))
}

fn run(options: &Options) -> Result<()> {
    match &options.command {
        Command::List { results } => {
            let list = list::of(&all_runs(results)?);
            say(&list.table)?;
            ensure!(list.faults.is_empty(), "{}", list.faults.join("; "));
            Ok(())
        }
        Command::Compare { runs, against, out } => compare(runs, against.as_deref(), out),
        Command::CheckErrors { run } => {
            let run = ScoredRun::read(run)?;
            ensure!(
                Summary::all(&run.rows).iter().any(|summary| summary.seeds() > 1),
                "{} has one seed: give a run with --seeds 20 or so",
                run.name()
            );
            say(&table::of_errors(&run))
        }
        Command::Components { runs, against, out } => {
            ensure_outside(out, runs)?;
            let components = components(&ScoredRun::read_all(runs)?, against.as_deref())?;
            write_csv(out, &components)?;
            say(&table::of_components(&components))?;
            say(&out.display().to_string())
        }
        Command::Plots { runs } => plots(runs),
        Command::Report { runs, out } => {
            let out = out.clone().unwrap_or_else(|| match runs.as_slice() {
                [run] => run.join("report.html"),
                _ => "results/report.html".into(),
            });
            let is_page = out.extension().is_some_and(|extension| extension == "html");
            ensure!(is_page, "--out {} is no page's name: give one that ends with .html", out.display());
            write_page(runs, &out)?;
            say(&out.display().to_string())
        }
        Command::PlotRho { picture } => {
            let chart = fid_by_rho(&picture.read()?).context("in none of these runs ρ was varied")?;
            picture.save("results/fid_by_rho.png", |path| chart.save(path))
        }
        Command::PlotSamplers { picture } => {
            let chart = fid_by_sampler(&picture.read()?).context("none of these runs has samples")?;
            picture.save("results/fid_by_sampler.png", |path| chart.save(path))
        }
    }
}

impl Picture {
    fn read(&self) -> Result<Vec<ScoredRun>> {
        let runs = ScoredRun::read_all(&self.runs)?;
        check_comparable(&runs)?;
        Ok(runs)
    }

    fn save(&self, default: &str, save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.out.clone().unwrap_or_else(|| default.into());
        save(&path)?;
        say(&path.display().to_string())
    }
}

fn compare(runs: &[PathBuf], against: Option<&str>, out: &Path) -> Result<()> {
    ensure_outside(out, runs)?;
    let runs = ScoredRun::read_all(runs)?;
    ensure!(
        against.is_none() || runs.len() == 1,
        "--against names a setting of one run: give one run, or leave it out"
    );
    let differences = match runs.as_slice() {
        [run] => compare_settings(run, against)?,
        runs => compare_runs(runs)?,
    };
    ensure!(!differences.is_empty(), "{} has but one setting: there is nothing to compare", runs[0].name());
    // Who names one of the files means all of them.
    let is_ours =
        out.extension().is_some_and(|ending| ["csv", "png", "svg"].map(OsStr::new).contains(&ending));
    let out = if is_ours { &out.with_extension("") } else { out };
    let (csv, png) = (with_ending(out, ".csv")?, with_ending(out, ".png")?);
    // First what may be impossible: there may be too many settings for a picture.
    difference_chart(&differences).save_both(&png)?;
    write_csv(&csv, &differences)?;
    say(&table::text(&runs, &differences))?;
    say(&format!("{}\n{}\n{}", csv.display(), png.display(), png.with_extension("svg").display()))
}

/// `ending` behind a name, in which there may be dots.
fn with_ending(path: &Path, ending: &str) -> Result<PathBuf> {
    let mut name =
        path.file_name().with_context(|| format!("--out {} names no file", path.display()))?.to_owned();
    name.push(ending);
    Ok(path.with_file_name(name))
}

fn plots(runs: &[PathBuf]) -> Result<()> {
    let runs = if runs.is_empty() { all_runs(Path::new("results"))? } else { runs.to_vec() };
    let drawn: Vec<Vec<PathBuf>> = runs
        .par_iter()
        .map(|run| {
            RunRecord::read(run).with_context(|| format!("{} is not a run's folder", run.display()))?;
            draw_charts(run)
        })
        .collect::<Result<_>>()?;
    drawn.iter().flatten().try_for_each(|path| say(&path.display().to_string()))
}

/// The runs' folders in `folder`, or itself, in the order of their names: those of experiments, and those of sweeps, a folder further down.
fn all_runs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut runs = vec![];
    find_runs(folder, 3, &mut runs)?;
    ensure!(!runs.is_empty(), "there are no runs in {}", folder.display());
    Ok(runs)
}

fn find_runs(folder: &Path, levels: usize, runs: &mut Vec<PathBuf>) -> Result<()> {
    if is_there(&folder.join("run.json")) {
        runs.push(folder.to_path_buf());
        return Ok(());
    }
    if levels == 0 {
        return Ok(());
    }
    let message = || format!("cannot list {}", folder.display());
    let mut paths = vec![];
    for entry in std::fs::read_dir(folder).with_context(message)? {
        paths.push(entry.with_context(message)?.path());
    }
    paths.retain(|path| path.is_dir());
    paths.sort();
    paths.iter().try_for_each(|path| find_runs(path, levels - 1, runs))
}

/// Refuses to write `out` over what is in the folder of one of `runs`.
fn ensure_outside(out: &Path, runs: &[PathBuf]) -> Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(folder) = folder.canonicalize() else { return Ok(()) };
    let inside = runs.iter().any(|run| run.canonicalize().is_ok_and(|run| run == folder));
    ensure!(!inside, "--out {} is in a run's folder: give it another place", out.display());
    Ok(())
}
