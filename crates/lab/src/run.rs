//! A run's folder and its log.

use crate::progress::LogWriter;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The folder that holds everything about one run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Makes a new run's folder: `out` where given, which must be empty or not yet there, else
    /// `results/EXPERIMENT/LABEL-TIME`, with a number behind it where that is taken.
    ///
    /// # Errors
    /// When the folder holds something or cannot be made.
    pub fn create(out: Option<&Path>, experiment: &str, label: &str) -> Result<Self> {
        if let Some(out) = out {
            let taken = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
            ensure!(
                !taken,
                "{} already holds files: give --out another folder, or --resume it",
                out.display()
            );
            fs::create_dir_all(out).with_context(|| unwritable(out))?;
            return Self::open(out);
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

    /// An existing run's folder, into which files can be written.
    ///
    /// # Errors
    /// When it is not a folder, or nothing can be written into it.
    pub fn open(root: &Path) -> Result<Self> {
        ensure!(root.is_dir(), "{} is not a run's folder", root.display());
        let probe = root.join(".writable");
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).with_context(|| unwritable(root))?;
        Ok(Self { root: root.to_path_buf() })
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

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

fn unwritable(path: &Path) -> String {
    format!("cannot write to {}: give --out a folder that can be written", path.display())
}

/// Sends log lines to stderr (as RUST_LOG says, by default from `info` up) and to `log.txt` of the run's folder.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start_log(folder: &RunFolder) -> Result<()> {
    let path = folder.path("log.txt");
    let file = File::options().create(true).append(true).open(&path).with_context(|| unwritable(&path))?;
    let chosen = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let terminal = fmt::layer().with_writer(|| LogWriter).with_target(false).without_time().with_filter(chosen);
    let log = fmt::layer().with_writer(file).with_ansi(false).with_target(false).with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(terminal).with(log).try_init().context("the log is already started")
}
