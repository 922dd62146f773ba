//! Many runs from one description: runs what is missing, merges their tables, draws the charts that the description asks for.

mod charts;
mod curves;
mod description;
mod execute;
mod merge;
mod plan;
mod slurm;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use description::{PlannedRun, Sweep};
use elucidate_report::lock;
use elucidate_report::terminal::{self, say, say_aside};
use execute::{STOPS, Signals, execute, threads};
use plan::{State, binary, check, finished, seconds, state};
use slurm::Resources;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// More runs than this are asked for once more.
const MANY: usize = 100;

/// Run what a sweep's file describes: every combination of its axes, each in a folder of its own, as the experiment alone would.
/// What is finished is not run again, what was stopped is gone on with. At the end, one table of all and the file's charts.
#[derive(Debug, Parser)]
#[command(name = "sweep", version)]
struct Options {
    /// The sweep's file (TOML): docs/sweeps.md
    file: PathBuf,

    /// Say what there is to do, and end
    #[arg(long)]
    plan: bool,

    /// Merge the tables and draw the charts of what is there, also while the sweep runs, and end
    #[arg(long, conflicts_with = "plan")]
    merge: bool,

    /// Also where there are more than 100 runs
    #[arg(long)]
    yes: bool,

    /// Submit what is missing to a cluster, as job arrays of Slurm, one run a task, and end; again, what is neither finished nor with the
    /// cluster
    #[arg(long)]
    slurm: bool,

    /// Say how far the runs are, and what the cluster has of them, and end
    #[arg(long, conflicts_with_all = ["plan", "merge", "slurm"])]
    status: bool,

    /// What a task of the cluster runs
    #[arg(long, hide = true)]
    task: bool,

    #[command(flatten)]
    resources: Resources,
}

fn main() -> ExitCode {
    terminal::main(run)
}

fn run(options: &Options) -> Result<ExitCode> {
    let sweep = Sweep::read(&options.file)?;
    if options.merge {
        return merged(&sweep).map(|()| ExitCode::SUCCESS);
    }
    if options.status {
        say(&slurm::status(&sweep)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let binary = binary(&sweep)?;
    if options.task {
        return slurm::task(&sweep, &binary);
    }
    let todo = plan(&sweep, &binary)?;
    if options.plan {
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        todo.len() <= MANY || options.yes,
        "{} runs are to be made, more than {MANY}: give --yes if that is meant",
        todo.len()
    );
    let _lock = locked(&sweep)?;
    if options.slurm {
        let submitted = slurm::submit(&sweep, &todo, &options.resources)?;
        for (job, runs) in &submitted {
            say(&format!("job {job}: {runs} runs"))?;
        }
        if submitted.is_empty() {
            say("nothing to submit: what is not finished is with the cluster")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (todo, left) = slurm::not_with_the_cluster(&sweep, todo)?;
    if left > 0 {
        say(&format!("{left} runs are with the cluster and left to it"))?;
    }
    let signals = Signals::listen(STOPS)?;
    let failures = execute(&sweep, &binary, &todo, &signals, &say_aside);
    let merged = merged(&sweep);
    if signals.count() > 0 {
        merged.unwrap_or_else(|error| say_aside(&format!("{error:#}")));
        say_aside("stopped; what is written is kept: the same command goes on");
        return Ok(ExitCode::from(130));
    }
    if failures.is_empty() {
        return merged.map(|()| ExitCode::SUCCESS);
    }
    for failure in &failures {
        say_aside(&format!("{}: {}", failure.name, failure.message));
    }
    merged.unwrap_or_else(|error| say_aside(&format!("{error:#}")));
    bail!("{} of {} runs failed; the same command tries them again", failures.len(), todo.len())
}

/// Checks every run's options, tells of what there is to do, and returns the runs that are not finished.
fn plan<'a>(sweep: &'a Sweep, binary: &Path) -> Result<Vec<&'a PlannedRun>> {
    let known = finished(&sweep.experiment, &sweep.out);
    let (mut todo, mut total, mut unknown) = (vec![], 0.0, 0);
    for run in &sweep.runs {
        let cost = check(sweep, binary, run)?;
        let state = state(sweep, run)?;
        let word = match state {
            State::Finished => "finished",
            State::Stopped => "stopped",
            State::Missing => "to run",
        };
        say(&format!("{word:<9} {}", run.name))?;
        if state != State::Finished {
            todo.push(run);
            match seconds(&cost, run.threads().unwrap_or_else(|| threads(sweep)), &known) {
                Some(seconds) => total += seconds,
                None => unknown += 1,
            }
        }
    }
    let time = match (todo.len(), unknown) {
        (0, _) => String::new(),
        (_, 0) => format!(", about {}", duration(total / sweep.at_once as f64)),
        _ => ", how long is known once a run of such a network is finished".to_string(),
    };
    say(&format!("{} runs in {}, {} to run{time}", sweep.runs.len(), sweep.out.display(), todo.len()))?;
    Ok(todo)
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Makes the sweep's folder its own until the file that is returned is closed.
fn locked(sweep: &Sweep) -> Result<File> {
    let unwritable = || format!("cannot write to {}", sweep.out.display());
    fs::create_dir_all(&sweep.out).with_context(unwritable)?;
    lock(&sweep.out).with_context(unwritable)?.with_context(|| {
        format!("another sweep is running in {}: wait for its end, or stop it first", sweep.out.display())
    })
}

fn merged(sweep: &Sweep) -> Result<()> {
    let merged = merge::merge(sweep)?;
    let nothing = merged.written.is_empty() && merged.faults.is_empty();
    ensure!(!nothing, "no run of {} has begun yet", sweep.out.display());
    merged.written.iter().try_for_each(|path| say(&path.display().to_string()))?;
    if merged.unfinished > 0 {
        say(&format!(
            "{} runs are not finished: the tables have them, the charts do not",
            merged.unfinished
        ))?;
    }
    ensure!(merged.faults.is_empty(), "{}", merged.faults.join("; "));
    Ok(())
}
