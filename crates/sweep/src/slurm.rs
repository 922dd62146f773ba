//! The same runs on a cluster, as job arrays of Slurm: one run a task.

use crate::description::{PlannedRun, Sweep};
use crate::execute::{Signals, run_one};
use crate::plan::{State, state};
use anyhow::{Context, Result, bail, ensure};
use elucidate_report::terminal::{quoted, say_aside};
use elucidate_report::{is_there, read_json, write_json};
use signal_hook::consts::SIGUSR1;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

/// Of a sweep's folder: what was submitted, and what the tasks say.
const FOLDER: &str = "slurm";
/// In it: the job arrays.
const JOBS: &str = "jobs.json";
/// A task is told of its time limit so many seconds before.
const BEFORE_THE_END: u32 = 120;
/// Between two requests for a task's place in the queue.
const REQUEUE_AGAIN: Duration = Duration::from_secs(3);

/// What a task asks of the cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct Resources {
    /// With --slurm: the time limit of a task, as sbatch takes it; a run that takes longer goes on in the next
    #[arg(long, default_value = "04:00:00", value_name = "TIME", requires = "slurm")]
    pub time: String,

    /// With --slurm: how long before its time limit a task is told of it, to write a checkpoint
    #[arg(long, default_value_t = BEFORE_THE_END, value_name = "SECONDS", requires = "slurm")]
    pub signal_before: u32,

    /// With --slurm: memory of a task, as sbatch takes it
    #[arg(long, default_value = "4G", value_name = "SIZE", requires = "slurm")]
    pub memory: String,

    /// With --slurm: processors of a task, which are the run's threads
    #[arg(long, default_value_t = 2, value_name = "N", requires = "slurm")]
    pub cpus: usize,

    /// With --slurm: the partition [default: the cluster's]
    #[arg(long, value_name = "NAME", requires = "slurm")]
    pub partition: Option<String>,

    /// With --slurm: at most so many tasks at a time [default: as many as the cluster gives]
    #[arg(long, value_name = "N", requires = "slurm")]
    pub at_once: Option<usize>,
}

/// The runs of a sweep's job arrays, in the order of their tasks, by the array's number.
type Jobs = BTreeMap<u64, Vec<String>>;

fn jobs(sweep: &Sweep) -> Result<Jobs> {
    let path = sweep.out.join(FOLDER).join(JOBS);
    if is_there(&path) { read_json(&path) } else { Ok(Jobs::new()) }
}

/// Submits `runs` but for those that are with the cluster already, as one job array or, where the cluster takes fewer tasks in one, as
/// several. Returns the arrays' numbers and how many runs they have.
///
/// # Errors
/// When there is no Slurm here, it refuses, or a file cannot be written.
pub fn submit(sweep: &Sweep, runs: &[&PlannedRun], resources: &Resources) -> Result<Vec<(u64, usize)>> {
    let largest = largest_array()?;
    let mut jobs = jobs(sweep)?;
    let (missing, _) = not_with_the_cluster(sweep, runs.to_vec())?;
    let folder = sweep.out.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    let mut submitted = vec![];
    for part in missing.chunks(largest) {
        let job = sbatch(sweep, part.len(), resources)?;
        jobs.insert(job, part.iter().map(|run| run.name.clone()).collect());
        // The tasks wait for it: they find their runs there.
        write_json(&folder.join(JOBS), &jobs)?;
        submitted.push((job, part.len()));
    }
    Ok(submitted)
}

/// Those of `runs` that no task waits for or does, and how many the others are.
///
/// # Errors
/// When runs were submitted, and Slurm cannot be asked for them.
pub fn not_with_the_cluster<'a>(
    sweep: &Sweep,
    runs: Vec<&'a PlannedRun>,
) -> Result<(Vec<&'a PlannedRun>, usize)> {
    let queued: HashSet<String> = queued(&jobs(sweep)?)?.into_iter().map(|task| task.run).collect();
    let (theirs, ours): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| queued.contains(&run.name));
    Ok((ours, theirs.len()))
}

/// The most tasks of a job array, and with it whether there is a Slurm.
fn largest_array() -> Result<usize> {
    let config = output(Command::new("scontrol").args(["show", "config"]))?;
    let line = config.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize"));
    let size = line.and_then(|rest| rest.trim_start_matches([' ', '=']).trim().parse::<usize>().ok());
    // The largest index is one less than MaxArraySize, and indices begin at 0.
    size.filter(|&size| size > 0).context("scontrol does not tell the cluster's MaxArraySize")
}

fn sbatch(sweep: &Sweep, tasks: usize, resources: &Resources) -> Result<u64> {
    let own = std::env::current_exe().context("where this program is cannot be found out")?;
    let [own, file] = [own.to_string_lossy(), sweep.file.to_string_lossy()];
    let script = format!("#!/bin/bash\nexec {} {} --task\n", quoted(&own), quoted(&file));
    let at_once = resources.at_once.map_or_else(String::new, |n| format!("%{n}"));
    // %A and %a are the array's number and the task's; a % of the folder's name is none.
    let folder = sweep.out.join(FOLDER).display().to_string().replace('%', "%%");
    let mut command = Command::new("sbatch");
    command.args(["--parsable", "--requeue", "--open-mode=append"]);
    command.arg(format!("--job-name={}", sweep.file.file_stem().unwrap_or_default().to_string_lossy()));
    command.arg(format!("--array=0-{}{at_once}", tasks - 1));
    command.arg(format!("--time={}", resources.time)).arg(format!("--mem={}", resources.memory));
    command.arg(format!("--cpus-per-task={}", resources.cpus));
    command.arg(format!("--signal=B:USR1@{}", resources.signal_before));
    command.arg(format!("--output={folder}/%A_%a.txt"));
    command.args(resources.partition.iter().map(|name| format!("--partition={name}")));
    let pipe = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipe.spawn().map_err(not_there("sbatch"))?;
    child.stdin.take().context("sbatch reads nothing")?.write_all(script.as_bytes())?;
    let text = checked(child.wait_with_output()?, "sbatch")?;
    let number = text.trim().split(';').next().unwrap_or_default();
    number.parse().with_context(|| format!("sbatch says {number:?} where a job's number should be"))
}

/// What a program of Slurm's prints.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    checked(command.output().map_err(not_there(&name))?, &name)
}

fn checked(output: std::process::Output, name: &str) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", error.lines().next().unwrap_or("it fails"));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn not_there(name: &str) -> impl Fn(std::io::Error) -> anyhow::Error {
    move |error| match error.kind() {
        ErrorKind::NotFound => {
            anyhow::anyhow!(
                "there is no {name} here: --slurm needs Slurm's programs, as a cluster's login node has them"
            )
        }
        _ => anyhow::Error::from(error).context(format!("cannot run {name}")),
    }
}

/// A task that the cluster has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    /// Its run.
    run: String,
    /// Slurm's word for its state: PENDING, RUNNING …
    state: String,
}

/// The tasks of `jobs` that wait or run.
fn queued(jobs: &Jobs) -> Result<Vec<Task>> {
    let mut all = vec![];
    if jobs.is_empty() {
        return Ok(all);
    }
    // Of all of the user's jobs: asked for jobs that are long gone, squeue fails.
    let text = output(Command::new("squeue").args(["--me", "--noheader", "--array", "--format=%F %K %T"]))?;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (job, task, state) = (words.next(), words.next(), words.next().unwrap_or_default());
        let job = job.and_then(|job| job.parse().ok());
        let run =
            task.and_then(|task| task.parse::<usize>().ok()).and_then(|task| jobs.get(&job?)?.get(task));
        all.extend(run.map(|run| Task { run: run.clone(), state: state.to_string() }));
    }
    Ok(all)
}

/// How far the sweep is: a line for how many runs are finished, stopped, not begun, and for what the cluster has of them.
///
/// # Errors
/// When a run's folder is damaged, or Slurm cannot be asked.
pub fn status(sweep: &Sweep) -> Result<String> {
    let mut counts = [0; 3];
    for run in &sweep.runs {
        counts[match state(sweep, run)? {
            State::Finished => 0,
            State::Stopped => 1,
            State::Missing => 2,
        }] += 1;
    }
    let [finished, begun, missing] = counts;
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for task in queued(&jobs(sweep)?)?.into_iter() {
        *states.entry(task.state.to_lowercase()).or_default() += 1;
    }
    let with_the_cluster: Vec<String> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let with_the_cluster = if states.is_empty() {
        "the cluster has none of them".to_string()
    } else {
        with_the_cluster.join(", ")
    };
    Ok(format!(
        "{} runs: {finished} finished, {begun} begun, {missing} not begun; {with_the_cluster}",
        sweep.runs.len()
    ))
}

/// What a task does: its run, or the rest of it. Told of its time limit by USR1 it has the run write a checkpoint, and puts itself into
/// the queue again.
///
/// # Errors
/// When it is not a task of this sweep, or the run fails.
pub fn task(sweep: &Sweep, binary: &Path) -> Result<ExitCode> {
    // The others Slurm sends to all of a task's processes, and a run that is told twice ends at once.
    let signals = Signals::listen(&[SIGUSR1])?;
    let variable =
        |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: --task is for Slurm"));
    let (job, index) = (variable("SLURM_ARRAY_JOB_ID")?, variable("SLURM_ARRAY_TASK_ID")?);
    let name = waited_for(sweep, job.parse()?, index.parse()?)?;
    let run = sweep.runs.iter().find(|run| run.name == name);
    let run = run.with_context(|| format!("{} no longer asks for {name}", sweep.file.display()))?;
    let threads = variable("SLURM_CPUS_PER_TASK").ok().and_then(|cpus| cpus.parse().ok());
    let ended = run_one(sweep, binary, run, threads, &signals)?;
    match ended {
        None => Ok(ExitCode::SUCCESS),
        Some(_) if signals.count() > 0 => {
            requeue(&format!("{job}_{index}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(message) => bail!("{name}: {message}"),
    }
}

/// Puts this task into the queue again, asking more than once: a controller that is busy or begins anew refuses for a while.
fn requeue(task: &str) -> Result<()> {
    let ask = || output(Command::new("scontrol").args(["requeue", task]));
    for _ in 0..5 {
        let Err(error) = ask() else { return Ok(()) };
        say_aside(&format!("asked again in {} s: {error:#}", REQUEUE_AGAIN.as_secs()));
        thread::sleep(REQUEUE_AGAIN);
    }
    ask().map(drop).with_context(|| {
        format!("task {task} is not in the queue again; the same sweep --slurm submits its run")
    })
}

/// The run of a task: the list is written just after the array was submitted.
fn waited_for(sweep: &Sweep, job: u64, index: usize) -> Result<String> {
    for _ in 0..60 {
        if let Some(run) = jobs(sweep)?.get(&job).and_then(|runs| runs.get(index)) {
            return Ok(run.clone());
        }
        thread::sleep(Duration::from_secs(1));
    }
    bail!("{} knows no task {index} of job {job}", sweep.out.join(FOLDER).join(JOBS).display())
}
