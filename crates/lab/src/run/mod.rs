//! A run: its folder, its log, and what is written down about it.

pub mod interrupt;
pub mod options;
pub mod program;
pub mod progress;

use self::options::{RunOptions, Settings};
use self::program::{can_be_resumed, git_revision};
use self::progress::{LogWriter, colours};
use crate::evaluate::draw::Batches;
use anyhow::{Context, Result, ensure};
use candle_core::Device;
use elucidate_core::data::FashionMnist;
use elucidate_core::files::delete_unfinished;
use elucidate_core::rng::Streams;
use elucidate_metrics::Classifier;
use elucidate_report::terminal::quoted;
use elucidate_report::{LOG, RunRecord, SCHEMA_VERSION, Session, check_text, is_taken, lock, write_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{info, warn};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The folder that holds everything about one run, and that no other run writes into meanwhile.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes a new run's folder: `out` where given, which must be empty or not yet there, else
    /// `results/EXPERIMENT/LABEL-TIME`, with a number behind it where that is taken.
    ///
    /// # Errors
    /// When the folder holds something or cannot be made.
    pub fn create(out: Option<&Path>, experiment: &str, label: &str) -> Result<Self> {
        if let Some(out) = out {
            check_text(&out.to_string_lossy()).with_context(|| format!("--out {out:?}"))?;
            ensure_free(out)?;
            fs::create_dir_all(out).with_context(|| unwritable(out))?;
            let folder = Self::open(out)?;
            // Another run may have come and gone since.
            ensure_free(out)?;
            return Ok(folder);
        }
        let parent = Path::new("results").join(experiment);
        fs::create_dir_all(&parent).with_context(|| unwritable(&parent))?;
        let name = format!("{label}-{}", jiff::Zoned::now().strftime("%Y%m%d-%H%M%S"));
        for attempt in 1.. {
            let root = match attempt {
                1 => parent.join(&name),
                n => parent.join(format!("{name}-{n}")),
            };
            match fs::create_dir(&root) {
                Ok(()) => return Self::open(&root),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).with_context(|| unwritable(&root)),
            }
        }
        unreachable!("some number is free")
    }

    /// An existing run's folder, into which files can be written and no other run writes.
    ///
    /// # Errors
    /// When it is not a folder, nothing can be written into it, or another run writes into it.
    pub fn open(root: &Path) -> Result<Self> {
        ensure!(root.is_dir(), "{} is not a run's folder", root.display());
        let lock = lock(root).with_context(|| unwritable(root))?;
        let lock = lock.with_context(|| {
            format!("another run is writing into {}: wait for its end, or stop it first", root.display())
        })?;
        Ok(Self { root: root.to_path_buf(), _lock: lock })
    }

    /// Deletes what was being written when the run was killed.
    fn delete_unfinished(&self) -> Result<()> {
        for folder in ["", "checkpoint", "model", "samples", "samples_by_epoch"].map(|name| self.path(name)) {
            if folder.is_dir() {
                delete_unfinished(&folder).with_context(|| unwritable(&folder))?;
            }
        }
        Ok(())
    }

    /// The path of a file in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The run's name: that of its folder.
    pub fn name(&self) -> String {
        let full = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        full.file_name().map_or_else(|| "run".to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The folder of the process, as seen from this one.
    fn seen_from_it(&self) -> Option<String> {
        let (here, root) =
            (std::env::current_dir().ok()?.canonicalize().ok()?, self.root.canonicalize().ok()?);
        Some(pathdiff::diff_paths(here, root)?.to_string_lossy().into_owned())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Refuses a folder that holds more than a run leaves that was killed before its first run.json.
fn ensure_free(out: &Path) -> Result<()> {
    ensure!(
        !is_taken(out),
        "{} already holds files: give --out another folder, or --resume it",
        out.display()
    );
    Ok(())
}

fn unwritable(path: &Path) -> String {
    format!("cannot write to {}: give --out a folder that can be written", path.display())
}

/// Sends log lines to stderr (as RUST_LOG says, by default from `info` up) and to `log.txt` of the run's folder.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start_log(folder: &RunFolder) -> Result<()> {
    let path = folder.path(LOG);
    let file = File::options().create(true).append(true).open(&path).with_context(|| unwritable(&path))?;
    let chosen = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let terminal = fmt::layer()
        .with_writer(|| LogWriter)
        .with_ansi(colours())
        .with_target(false)
        .without_time()
        .with_filter(chosen);
    // Where the disk is full, the run's own files say so.
    let log = fmt::layer()
        .with_writer(file)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(terminal).with(log).try_init().context("the log is already started")
}

/// The end of a run with `--dry-run`: its options as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DryRun(pub(crate) String);

/// A run under way: where it writes, what it works with, and what is written down about it.
#[derive(Debug)]
pub struct Run {
    /// Its folder.
    pub folder: RunFolder,
    /// Its options, filled in.
    pub settings: Settings,
    /// Its random streams.
    pub streams: Streams,
    /// Where it computes.
    pub device: Device,
    /// Images that are sampled together.
    pub batches: Batches,
    /// Time of training between checkpoints, besides those at each epoch's end.
    pub checkpoint_every: Duration,
    /// Fashion-MNIST.
    pub data: FashionMnist,
    /// The classifier that scores its samples.
    pub classifier: Classifier,
    /// What run.json says.
    pub record: RunRecord,
}

impl Run {
    /// Begins a run of `experiment`: sets the threads, reads data and classifier, makes the folder and its log, and
    /// writes the first run.json. `own` are the experiment's own options; `preset` makes a preset's values the experiment's.
    ///
    /// With `--dry-run` the options are checked, and the error holds them as JSON. With `--resume` the folder, the settings and the experiment's own options are those of the run that is gone on
    /// with: the returned value holds the latter.
    ///
    /// # Errors
    /// When an option is impossible, or something that is needed cannot be had; nothing is written then.
    pub fn begin<T: Serialize + DeserializeOwned>(
        options: &RunOptions,
        experiment: &str,
        own: T,
        preset: impl FnOnce(&mut Settings),
    ) -> Result<(Self, T)> {
        let (device, threads) = prepare(options)?;
        let minutes = options.checkpoint_minutes;
        let checkpoint_every = Duration::try_from_secs_f64(60.0 * minutes)
            .with_context(|| format!("--checkpoint-minutes {minutes} is impossible: give 0 or more"))?;
        let (settings, own, stopped) = match &options.resume {
            Some(root) => {
                let (folder, record, stored) = stopped_run(root, options)?;
                (stored.settings, stored.own, Some((folder, record)))
            }
            None => (Settings::resolve(options, device.is_cuda(), preset)?, own, None),
        };
        if options.dry_run {
            return Err(DryRun(serde_json::to_string(&Stored { settings, own })?).into());
        }
        let data = FashionMnist::load(options.data_dir.as_deref())?;
        let classifier = match &options.classifier {
            Some(path) => Classifier::load(path, &device).context("--classifier")?,
            None => Classifier::pretrained(&device)?,
        };
        let session = session(&device, threads);
        let (folder, record) = match stopped {
            Some((folder, mut record)) => {
                ensure!(
                    record.classifier_sha256 == classifier.sha256(),
                    "--resume {}: its samples are scored with another classifier than this version's",
                    folder.root().display()
                );
                record.schema_version = SCHEMA_VERSION;
                record.resumed.push(session);
                (folder, record)
            }
            None => {
                let folder = RunFolder::create(options.out.as_deref(), experiment, settings.preset.name())?;
                let options = serde_json::to_value(Stored { settings: settings.clone(), own: &own })?;
                let record = RunRecord {
                    experiment: experiment.to_string(),
                    run: folder.name(),
                    working_folder: folder.seen_from_it(),
                    options,
                    seed: settings.seed,
                    data_source: from_here(&data.source),
                    data_sha256: data.sha256(),
                    classifier_sha256: classifier.sha256().to_string(),
                    ..begun_in(session)
                };
                (folder, record)
            }
        };
        start_log(&folder)?;
        interrupt::listen().context("SIGINT and SIGTERM cannot be listened for")?;
        let streams = Streams::new(settings.seed);
        let batches = Batches::new(&device, options.sampling_batch_size);
        let run =
            Self { folder, settings, streams, device, batches, checkpoint_every, data, classifier, record };
        run.save()?;
        can_be_resumed(run.folder.root());
        run.announce(experiment);
        Ok((run, own))
    }

    fn announce(&self, experiment: &str) {
        let root = self.folder.root().display();
        let Some(now) = self.record.resumed.last() else {
            info!("{experiment}: writing to {root}");
            return;
        };
        info!("{experiment}: going on with {root}");
        let begun = &self.record;
        for (what, then, now) in
            [("revision", &begun.git_revision, &now.git_revision), ("processor", &begun.cpu, &now.cpu)]
        {
            if then != now {
                warn!("begun with {what} {then}, now with {now}: figures may differ in their last digits");
            }
        }
    }

    /// Whether it is gone on with, so that part of it may be there already.
    pub fn is_resumed(&self) -> bool {
        !self.record.resumed.is_empty()
    }

    /// Does a phase of the run and writes down how long it took, also where it was stopped, with what an earlier session of the run
    /// wrote down.
    ///
    /// # Errors
    /// Those of the phase, when run.json cannot be written, and when the run was asked to stop.
    pub fn phase<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        interrupt::check()?;
        let start = Instant::now();
        let result = work(self);
        let seconds = start.elapsed().as_secs_f64();
        *self.record.seconds.entry(name.to_string()).or_default() += seconds;
        let saved = self.save();
        let result = result?;
        saved?;
        info!("{name}: {seconds:.1} s");
        Ok(result)
    }

    /// Writes down one of the experiment's own figures.
    pub fn figure(&mut self, name: &str, value: f64) {
        info!("{name} = {value:.4}");
        self.record.figures.insert(name.to_string(), value);
    }

    /// Ends the run.
    ///
    /// # Errors
    /// When run.json cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        self.record.finished = Some(now());
        self.save()?;
        info!("done: {}", self.folder.root().display());
        let root = self.folder.root().to_string_lossy();
        let root = quoted(&root);
        let compare = match self.folder.path("samples.csv").exists() {
            true => format!(", and `just compare {root} RUN` holds its samples against another run's"),
            false => String::new(),
        };
        info!("next: `just report {root}` makes a page of it{compare}");
        Ok(())
    }

    /// Writes down the settings as they are now, and the experiment's own options.
    pub(crate) fn describe<T: Serialize>(&mut self, own: &T) -> Result<()> {
        self.record.options = serde_json::to_value(Stored { settings: self.settings.clone(), own })?;
        Ok(())
    }

    /// Writes run.json as it is now.
    pub(crate) fn save(&self) -> Result<()> {
        write_json(&self.folder.path("run.json"), &self.record)
    }
}

/// Sets the threads and opens the device: returns it and how many threads there are.
fn prepare(options: &RunOptions) -> Result<(Device, usize)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores);
    elucidate_kernels::set_up(threads).with_context(|| format!("--threads {threads}"))?;
    elucidate_kernels::force_candle_ops(options.candle_ops);
    ensure!(options.sampling_batch_size != Some(0), "--sampling-batch-size 0 is impossible: give at least 1");
    let device = options.open_device()?;
    Ok((device, threads))
}

/// The folder, the record and the options of the run in `root`, which was stopped; nobody else writes there from now on.
fn stopped_run<T: DeserializeOwned>(
    root: &Path,
    options: &RunOptions,
) -> Result<(RunFolder, RunRecord, Stored<T>)> {
    let folder = RunFolder::open(root)?;
    let record = RunRecord::read(root)?;
    let stored: Stored<T> = serde_json::from_value(record.options.clone())
        .with_context(|| format!("--resume {}: run.json is of another version", root.display()))?;
    // What is not known of a model that was not trained here is 0.
    if options.checkpoint.is_none() {
        stored.settings.check()?;
    }
    folder.delete_unfinished()?;
    Ok((folder, record, stored))
}

fn session(device: &Device, threads: usize) -> Session {
    let device = if device.is_cuda() { "cuda" } else { "cpu" }.to_string();
    Session { started: now(), git_revision: git_revision().to_string(), threads, device, cpu: cpu() }
}

/// The record of a run that begins in this session.
fn begun_in(session: Session) -> RunRecord {
    let Session { started, git_revision, threads, device, cpu } = session;
    RunRecord {
        schema_version: SCHEMA_VERSION,
        command_line: command_line(),
        versions: versions(),
        started,
        git_revision,
        threads,
        device,
        cpu,
        ..RunRecord::default()
    }
}

/// The options as run.json holds them.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    settings: Settings,
    #[serde(flatten)]
    own: T,
}

fn now() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The command line, with the program's name in place of its path: records are compared across machines.
fn command_line() -> Vec<String> {
    let mut words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(name) = words.first().and_then(|program| Path::new(program).file_name()) {
        words[0] = name.to_string_lossy().into_owned();
    }
    words
}

/// A path as seen from the working folder, where it is inside.
fn from_here(path: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    Path::new(path).strip_prefix(here).map_or(path, |inside| inside.to_str().unwrap_or(path)).to_string()
}

fn versions() -> BTreeMap<String, String> {
    const PACKAGES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));
    let candle = PACKAGES.split("[[package]]").find_map(|package| {
        package.trim_start().strip_prefix("name = \"candle-core\"\nversion = \"")?.split('"').next()
    });
    [("elucidate", env!("CARGO_PKG_VERSION")), ("candle", candle.unwrap_or("unknown"))]
        .map(|(name, version)| (name.to_string(), version.to_string()))
        .into()
}

/// The processor's name, where the system tells it.
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}
