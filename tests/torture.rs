//! Smoke runs that are killed over and over, and gone on with each time: they must end as those that never were, bit for
//! bit. Needs the data: `just data`. `just torture` runs the long form.

mod common;
#[path = "common/runs.rs"]
mod runs;

use anyhow::{Context, Result, ensure};
use common::other;

use elucidate_core::rng::Streams;
use elucidate_report::{RunRecord, read_json};
use rand::RngExt;
use runs::differences;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_exp-23-karras");

/// When a run is ended, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// SIGKILL in the midst of a training.
    KillTraining,
    /// SIGKILL while a file of the checkpoint is being written.
    KillCheckpoint,
    /// SIGKILL while samples are drawn and scored.
    KillSampling,
    /// SIGKILL at any moment from the program's start on.
    KillAnywhere,
    /// SIGINT in the midst of a training.
    InterruptTraining,
    /// SIGTERM while samples are drawn and scored.
    TerminateSampling,
}
use End::*;

/// What was done to runs, and what came of it.
#[derive(Debug, Default)]
struct Counts {
    runs: usize,
    ends: Vec<End>,
    resumptions: usize,
    files: usize,
    differences: Vec<String>,
}

impl Counts {
    fn of(&self, end: End) -> usize {
        self.ends.iter().filter(|&&e| e == end).count()
    }

    fn kills(&self) -> usize {
        [KillTraining, KillCheckpoint, KillSampling, KillAnywhere].map(|end| self.of(end)).iter().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} runs: {} SIGKILLs ({} in training, {} while a checkpoint was written, {} in sampling, {} anywhere), {} \
             SIGINTs in training, {} SIGTERMs in sampling; {} resumptions; {} differences in {} files",
            self.runs,
            self.kills(),
            self.of(KillTraining),
            self.of(KillCheckpoint),
            self.of(KillSampling),
            self.of(KillAnywhere),
            self.of(InterruptTraining),
            self.of(TerminateSampling),
            self.resumptions,
            self.differences.len(),
            self.files
        )
    }
}

/// A command, and how long its parts take where nobody disturbs it.
struct Subject {
    binary: String,
    arguments: Vec<String>,
    reference: PathBuf,
    training: f64,
    sampling: f64,
    whole: f64,
}

impl Subject {
    /// Runs the command to its end.
    fn new(binary: String, arguments: &[&str], dir: &Path) -> Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let reference = dir.join("reference").join("run");
        let start = Instant::now();
        let status = command(&binary, &arguments, &reference).stderr(Stdio::null()).status()?;
        ensure!(status.success(), "the run that nobody disturbs fails");
        let seconds = read_json::<RunRecord>(&reference.join("run.json"))?.seconds;
        let sum = |of: &[&str]| of.iter().filter_map(|name| seconds.get(*name)).sum();
        Ok(Self {
            training: sum(&["training", "training without the logit"]),
            sampling: sum(&["sampling", "FID by rho", "DDIM", "Karras's samplers", "variants of the fix"]),
            whole: start.elapsed().as_secs_f64(),
            binary,
            arguments,
            reference,
        })
    }

    /// A run that is ended in each of these ways, one after the other, and gone on with each time.
    fn batter(&self, dir: &Path, ends: &[End], counts: &mut Counts) -> Result<()> {
        let streams = Streams::new(counts.runs as u64);
        let out = dir.join(counts.runs.to_string()).join("run");
        // A session gets through no more than its share, or later ones would find nothing left to disturb.
        let share = |seconds: f64, like: &[End]| {
            seconds / (ends.iter().filter(|end| like.contains(end)).count() + 1) as f64
        };
        for (i, &end) in ends.iter().enumerate() {
            let mut session = self.session(&out, counts)?;
            let longest = match end {
                KillTraining | KillCheckpoint | InterruptTraining => {
                    session.wait_for(" parameters");
                    share(self.training, &[KillTraining, KillCheckpoint, InterruptTraining])
                }
                KillSampling | TerminateSampling => {
                    session.wait_for("floor and yardsticks: ");
                    share(self.sampling, &[KillSampling, TerminateSampling])
                }
                KillAnywhere => self.whole / 2.0,
            };
            let delay = streams.stream("delay", i as u64).random_range(0.0..=longest);
            thread::sleep(Duration::from_secs_f64(delay));
            if end == KillCheckpoint {
                session.wait_until(|| unfinished(&out.join("checkpoint")));
            }
            let status = session.end(end)?;
            if session.was_hit(end, status, &out)? {
                counts.ends.push(end);
            }
        }
        let status = self.session(&out, counts)?.child.wait()?;
        ensure!(status.success(), "the last session fails");
        let (files, differences) = differences(&self.reference, &out)?;
        counts.files += files;
        counts.differences.extend(differences);
        counts.runs += 1;
        Ok(())
    }

    /// Begins the run in `out`, or goes on with it.
    fn session(&self, out: &Path, counts: &mut Counts) -> Result<Session> {
        let mut command = match out.join("run.json").exists() {
            true => {
                counts.resumptions += 1;
                let mut command = common::plain(&self.binary);
                command.args(["--checkpoint-minutes", "0", "--resume"]).arg(out);
                command
            }
            false => command(&self.binary, &self.arguments, out),
        };
        Session::new(command.stderr(Stdio::piped()).spawn()?)
    }
}

fn command(binary: &str, arguments: &[String], out: &Path) -> Command {
    let mut command = common::plain(binary);
    command.args(["--preset", "smoke", "--checkpoint-minutes", "0"]).args(arguments).arg("--out").arg(out);
    command
}

/// A process that works on a run, and the lines that it has written.
struct Session {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Session {
    fn new(mut child: Child) -> Result<Self> {
        let stderr = BufReader::new(child.stderr.take().context("stderr")?);
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = lines.clone();
        let reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                all.lock().expect("no panic").push(line);
            }
        });
        Ok(Self { child, lines, reader: Some(reader) })
    }

    fn wrote(&self, text: &str) -> bool {
        self.lines.lock().expect("no panic").iter().any(|line| line.contains(text))
    }

    fn wait_for(&mut self, text: &str) {
        let lines = self.lines.clone();
        self.wait_until(|| lines.lock().expect("no panic").iter().any(|line| line.contains(text)));
    }

    /// Waits until `condition` holds, or the process has ended.
    fn wait_until(&mut self, condition: impl Fn() -> bool) {
        while !condition() && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn end(&mut self, end: End) -> Result<ExitStatus> {
        let signal = match end {
            InterruptTraining => "-INT",
            TerminateSampling => "-TERM",
            _ => "-KILL",
        };
        // It fails where the process has ended by itself.
        Command::new("kill").arg(signal).arg(self.child.id().to_string()).stderr(Stdio::null()).status()?;
        let status = self.child.wait()?;
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        Ok(status)
    }

    /// Whether the process was ended where it was meant to be.
    fn was_hit(&self, end: End, status: ExitStatus, out: &Path) -> Result<bool> {
        let killed = status.code().is_none();
        let training = || self.wrote(" parameters") && !self.wrote("features of the test images: ");
        let sampling = || self.wrote("floor and yardsticks: ") && !self.wrote("done: ");
        Ok(match end {
            KillTraining => killed && training(),
            KillCheckpoint => killed && unfinished(&out.join("checkpoint")),
            KillSampling => killed && sampling(),
            KillAnywhere => killed,
            InterruptTraining | TerminateSampling if status.success() => false,
            InterruptTraining | TerminateSampling => {
                let code = if end == InterruptTraining { 130 } else { 143 };
                ensure!(status.code() == Some(code), "{end:?} ends with {status}");
                ensure!(self.wrote("stopped: ") && self.wrote(&format!("--resume {}", out.display())));
                true
            }
        })
    }
}

/// Whether a file in `dir` is being written, or was when the process was killed.
fn unfinished(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with('.'))
}

/// Two epochs of sixteen steps, two settings more than once; enough samples for the floor.
const KARRAS: &[&str] = &[
    "--batch-size",
    "16",
    "--samples",
    "16",
    "--seeds",
    "2",
    "--fid-infinity",
    "--save-samples",
    "--fid-every",
    "1",
];

#[test]
fn a_run_that_is_killed_again_and_again_ends_bit_for_bit_as_one_that_is_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let arguments = &[
        "--batch-size",
        "16",
        "--samples",
        "10",
        "--seeds",
        "3",
        "--fid-every",
        "1",
        "--setting",
        "heun steps=3",
    ];
    let subject = Subject::new(BINARY.to_string(), arguments, dir.path())?;
    let mut counts = Counts::default();
    let ends = [KillTraining, KillCheckpoint, InterruptTraining, KillSampling, TerminateSampling];
    subject.batter(dir.path(), &ends, &mut counts)?;
    println!("{counts}");
    assert!(counts.differences.is_empty(), "{:#?}", counts.differences);
    assert!(counts.ends.len() >= 3, "the run was hardly disturbed: {counts}");
    Ok(())
}

#[test]
#[ignore = "takes minutes: `just torture`"]
fn torture() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut counts = Counts::default();
    // Returns the model of the run that nobody disturbed.
    let mut batter = |binary: String, arguments: &[&str], runs, ends: &[End]| -> Result<String> {
        let dir = dir.path().join(format!("after {} runs", counts.runs));
        let subject = Subject::new(binary, arguments, &dir)?;
        for _ in 0..runs {
            subject.batter(&dir, ends, &mut counts)?;
            println!("{counts}");
        }
        Ok(subject.reference.join("model").display().to_string())
    };
    let training = [KillTraining, KillCheckpoint, InterruptTraining, KillTraining, KillCheckpoint];
    let sampling = [KillSampling, KillSampling, TerminateSampling, KillSampling, KillSampling];
    let all: Vec<End> = training.into_iter().chain([KillTraining]).chain(sampling).collect();
    batter(BINARY.to_string(), KARRAS, 5, &all)?;
    batter(BINARY.to_string(), KARRAS, 2, &[KillAnywhere; 4])?;
    let cosine = batter(other(BINARY, "exp-22-cosine")?, &["--samples", "16"], 2, &all)?;
    // It trains twice, and samples nothing.
    let twice = [training, training].concat();
    let noise_pred = batter(other(BINARY, "exp-22-noise-pred")?, &["--batch-size", "32"], 2, &twice)?;
    let models = ["--cosine", &cosine, "--noise-pred", &noise_pred];
    batter(other(BINARY, "exp-22-no-t")?, &models, 1, &all)?;
    assert!(counts.differences.is_empty(), "{:#?}", counts.differences);
    assert!(counts.kills() >= 50, "{counts}");
    assert!(counts.of(KillTraining) >= 20 && counts.of(KillCheckpoint) >= 5, "{counts}");
    assert!(counts.of(KillSampling) >= 10, "{counts}");
    Ok(())
}
