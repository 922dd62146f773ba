//! Runs what is missing, on this machine.

use crate::description::{PlannedRun, Sweep};
use crate::plan::{State, state};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What stops a sweep.
pub const STOPS: &[i32] = &[SIGHUP, SIGINT, SIGTERM];
/// How often a run's end is looked for.
const EVERY: Duration = Duration::from_millis(50);

/// Signals that have come to this process and are heeded.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    count: Arc<AtomicUsize>,
}

impl Signals {
    /// From now on SIGHUP, SIGINT, SIGTERM and SIGUSR1 end nothing by themselves; those that are `heeded` are counted.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(heeded: &'static [i32]) -> Result<Self> {
        let signals = Self::default();
        let mut told = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])
            .context("signals cannot be listened for")?;
        let count = Arc::clone(&signals.count);
        thread::spawn(move || {
            for _ in told.forever().filter(|signal| heeded.contains(signal)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(signals)
    }

    /// How many have come.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// How a run ended that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The run's name.
    pub name: String,
    /// Its own last line.
    pub message: String,
}

/// Runs all of `runs`, as many at once as the sweep says, and goes on with those that were stopped; a run that fails does not stop the
/// others. After a signal none is begun, and those under way are stopped as they are alone: they keep what they have. `say` is told of
/// each begin and end.
pub fn execute(
    sweep: &Sweep,
    binary: &Path,
    runs: &[&PlannedRun],
    signals: &Signals,
    say: &(dyn Fn(&str) + Sync),
) -> Vec<Failure> {
    let queue: Mutex<VecDeque<(usize, &PlannedRun)>> = Mutex::new(runs.iter().copied().enumerate().collect());
    let failures = Mutex::new(vec![]);
    let threads = (sweep.at_once > 1).then(|| threads(sweep));
    let worker = || {
        while signals.count() == 0 {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((i, run)) = next else { break };
            let start = Instant::now();
            say(&format!("{} of {}: {}", i + 1, runs.len(), run.name));
            let ended = run_one(sweep, binary, run, threads, signals);
            let ended = ended.unwrap_or_else(|error| Some(format!("{error:#}")));
            let seconds = start.elapsed().as_secs_f64();
            match ended {
                None => say(&format!("{} of {}: {:.0} s", i + 1, runs.len(), seconds)),
                Some(message) => {
                    say(&format!("{} of {}: {message}", i + 1, runs.len()));
                    let failure = Failure { name: run.name.clone(), message };
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..sweep.at_once.min(runs.len()) {
            scope.spawn(worker);
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of a run whose options do not say: those at once share the cores.
pub fn threads(sweep: &Sweep) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / sweep.at_once).max(1)
}

/// Runs one, or goes on with it, with so many `threads` where its options do not say: nothing where it ended well, else its last line.
///
/// # Errors
/// When it cannot be started.
pub fn run_one(
    sweep: &Sweep,
    binary: &Path,
    run: &PlannedRun,
    threads: Option<usize>,
    signals: &Signals,
) -> Result<Option<String>> {
    let folder = sweep.folder(run);
    let said = sweep.out.join(format!("{}.stderr", run.name));
    let mut command = Command::new(binary);
    match state(sweep, run)? {
        State::Missing => command.args(&run.options).arg("--out").arg(&folder),
        State::Stopped => command.arg("--resume").arg(&folder),
        State::Finished => return Ok(None),
    };
    if let Some(threads) = threads.filter(|_| run.threads().is_none()) {
        command.args(["--threads", &threads.to_string()]);
    }
    let file = File::create(&said).with_context(|| format!("cannot write {}", said.display()))?;
    // In a group of its own, so that Ctrl-C reaches it by us alone: a second signal would end it at once.
    command
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
    let status = wait(&mut child, signals)?;
    if status.success() {
        fs::remove_file(&said).with_context(|| format!("cannot delete {}", said.display()))?;
        return Ok(None);
    }
    let text = fs::read_to_string(&said).unwrap_or_default();
    Ok(Some(text.lines().last().map_or_else(|| status.to_string(), str::to_string)))
}

/// Waits for its end, and hands on each signal that comes.
fn wait(child: &mut Child, signals: &Signals) -> Result<std::process::ExitStatus> {
    let mut handed_on = 0;
    loop {
        if let Some(status) = child.try_wait().context("a run cannot be waited for")? {
            return Ok(status);
        }
        if signals.count() > handed_on {
            handed_on += 1;
            // It may have ended since.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
        thread::sleep(EVERY);
    }
}
