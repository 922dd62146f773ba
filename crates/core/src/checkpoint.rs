//! What going on with a training needs, in one safetensors file.

use crate::files;
use crate::history::{EpochRecord, EpochSoFar, TrainOptions};
use crate::optim::AdamState;
use crate::params::{Params, Tensors};
use crate::rng::Streams;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// A training between two steps. Data order and noise are functions of the seed and the place in the run, so the seed and
/// the step are all there is to remember of them.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// How it trains.
    pub options: TrainOptions,
    /// The run's seed.
    pub seed: u64,
    /// How many examples it trains on.
    pub examples: usize,
    /// The weights.
    pub weights: Tensors,
    /// Adam's moments, the weights' average and the step.
    pub adam: AdamState,
    /// A row for each epoch done.
    pub history: Vec<EpochRecord>,
    /// The epoch under way.
    pub so_far: EpochSoFar,
}

/// Why a checkpoint cannot be read, written or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error("cannot {verb} the checkpoint {}: {source}", path.display())]
    Io {
        /// "read" or "write".
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no checkpoint, or not a whole one.
    #[error("{} is damaged or no checkpoint: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint is of a newer version.
    #[error("{} is of checkpoint version {found}; this program knows up to {VERSION}: use a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The checkpoint is of another training.
    #[error("{} is of another training: {reason}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
}

impl CheckpointError {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The numbers beside the tensors, as JSON in the file's metadata.
#[derive(Serialize, Deserialize)]
struct Header {
    options: TrainOptions,
    seed: u64,
    examples: usize,
    step: usize,
    history: Vec<EpochRecord>,
    #[serde(default)]
    so_far: EpochSoFar,
}

/// The version that is written; older ones are read too. 1 was written between epochs only, so it lacks `so_far`.
const VERSION: u32 = 2;
/// The metadata's key, with the version behind it.
const KEY: &str = "elucidate_checkpoint_";
const PARTS: [&str; 4] = ["weights.", "adam.m.", "adam.v.", "ema."];

/// Where the checkpoint before the one at `path` is kept: last.previous.safetensors beside last.safetensors.
pub fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous.safetensors")
}

impl Checkpoint {
    /// Writes it beside `path` and renames it, so that at any moment a whole checkpoint is at `path` or at
    /// [`previous`]`(path)`, where the one that was at `path` goes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let Self { options, seed, examples, weights, adam, history, so_far } = self;
        let header = Header {
            options: options.clone(),
            seed: *seed,
            examples: *examples,
            step: adam.step,
            history: history.clone(),
            so_far: *so_far,
        };
        let failed = |source| CheckpointError::Io { verb: "write", path: path.to_path_buf(), source };
        let header = serde_json::to_string(&header).map_err(|e| failed(e.into()))?;
        let tensors = PARTS.iter().zip([weights, &adam.m, &adam.v, &adam.ema]);
        let named =
            tensors.flat_map(|(part, all)| all.iter().map(move |(name, t)| (format!("{part}{name}"), t)));
        let bytes = safetensors::serialize(named, Some(HashMap::from([(format!("{KEY}{VERSION}"), header)])))
            .map_err(|e| failed(io::Error::other(e)))?;
        // Not the folders above it: where somebody deleted them, the run shall not go on in a folder of its own.
        match path.parent().map(std::fs::create_dir) {
            Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let keep_last = || match std::fs::rename(path, previous(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        files::write_after(path, &bytes, keep_last).map_err(failed)
    }

    /// Reads it, its tensors onto `device`.
    ///
    /// # Errors
    /// When the file is missing, damaged, no checkpoint, or one of a newer version.
    pub fn read(path: &Path, device: &Device) -> Result<Self, CheckpointError> {
        let bytes = files::read(path).map_err(|source| CheckpointError::Io {
            verb: "read",
            path: path.to_path_buf(),
            source,
        })?;
        let damaged = |reason: String| CheckpointError::Damaged { path: path.to_path_buf(), reason };
        let tensors = files::parse_tensors(&bytes, device).map_err(|e| damaged(format!("{e:#}")))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let of_version = |(key, header): (&String, &String)| {
            Some((key.strip_prefix(KEY)?.parse::<u32>().ok()?, header.clone()))
        };
        let header = metadata.metadata().iter().flatten().find_map(of_version);
        let (found, header) = header.ok_or_else(|| damaged(format!("its metadata lacks {KEY}{VERSION}")))?;
        if found > VERSION {
            return Err(CheckpointError::Newer { path: path.to_path_buf(), found });
        }
        let header: Header = serde_json::from_str(&header).map_err(|e| damaged(e.to_string()))?;
        let [weights, m, v, ema] = PARTS.map(|part| part_of(&tensors, part));
        if [&m, &v, &ema].iter().any(|all| !same_parameters(all, &weights)) {
            return Err(damaged("weights, moments and average are not of the same parameters".to_string()));
        }
        let Header { options, seed, examples, step, history, so_far } = header;
        let state =
            Self { options, seed, examples, weights, adam: AdamState { m, v, ema, step }, history, so_far };
        state.check_finite().map_err(|e| damaged(e.to_string()))?;
        Ok(state)
    }

    /// Reads the one at `path` or, where it is missing or damaged, the one before it, and says from which file it is.
    /// None where neither is there.
    ///
    /// # Errors
    /// When neither can be read, or the one at `path` is of a newer version.
    pub fn read_newest(path: &Path, device: &Device) -> Result<Option<(Self, PathBuf)>, CheckpointError> {
        let last = match Self::read(path, device) {
            Ok(state) => return Ok(Some((state, path.to_path_buf()))),
            Err(error @ CheckpointError::Newer { .. }) => return Err(error),
            Err(error) => error,
        };
        let earlier = previous(path);
        match Self::read(&earlier, device) {
            Ok(state) => {
                warn!("{last}; going on from {}", earlier.display());
                Ok(Some((state, earlier)))
            }
            Err(error) if last.is_missing() && error.is_missing() => Ok(None),
            Err(error) => Err(if last.is_missing() { error } else { last }),
        }
    }

    /// Refuses numbers that are infinite or none.
    ///
    /// # Errors
    /// One line that names the first such parameter.
    pub(crate) fn check_finite(&self) -> anyhow::Result<()> {
        let AdamState { m, v, ema, .. } = &self.adam;
        [&self.weights, m, v, ema].into_iter().try_for_each(files::check_finite)
    }

    /// Whether a training with these options can go on from it.
    ///
    /// # Errors
    /// [`CheckpointError::Other`], which names what differs.
    pub fn check(
        &self,
        options: &TrainOptions,
        streams: &Streams,
        examples: usize,
        params: &Params,
        path: &Path,
    ) -> Result<(), CheckpointError> {
        let reason = if self.options != *options {
            format!("its options are {}", different_options(&self.options, options))
        } else if self.seed != streams.seed() {
            format!("its seed is {}, asked for is {}", self.seed, streams.seed())
        } else if self.examples != examples {
            format!("it is for {} training images, there are {examples}", self.examples)
        } else if let Some(difference) = difference(params, &self.weights) {
            difference
        } else if !self.step_fits() {
            format!("its step is {}, after {} epochs", self.adam.step, self.history.len())
        } else {
            return Ok(());
        };
        Err(CheckpointError::Other { path: path.to_path_buf(), reason })
    }

    /// Whether the step lies in the epoch after those of the history.
    fn step_fits(&self) -> bool {
        let (epochs, steps) = (self.history.len(), self.options.steps_per_epoch(self.examples));
        let under_way = if epochs < self.options.epochs { steps } else { 0 };
        let first = epochs * steps;
        epochs <= self.options.epochs && (first..=first + under_way).contains(&self.adam.step)
    }
}

fn part_of(tensors: &HashMap<String, Tensor>, part: &str) -> Tensors {
    tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(part)?.to_string(), t.clone()))).collect()
}

fn same_parameters(a: &Tensors, b: &Tensors) -> bool {
    let kinds = |tensors: &Tensors| -> Vec<_> {
        tensors.iter().map(|(name, t)| (name.clone(), t.dims().to_vec(), t.dtype())).collect()
    };
    kinds(a) == kinds(b)
}

/// "epochs 4 (asked for: 5), …", of the options that differ.
fn different_options(saved: &TrainOptions, asked: &TrainOptions) -> String {
    let (saved, asked) = (json!(saved), json!(asked));
    let all = saved.as_object().into_iter().flatten();
    let different = all.filter(|(name, value)| asked[*name] != **value);
    different
        .map(|(name, value)| format!("{name} {value} (asked for: {})", asked[name]))
        .collect::<Vec<_>>()
        .join(", ")
}

fn difference(params: &Params, weights: &Tensors) -> Option<String> {
    if let Some(name) = weights.keys().find(|name| !params.vars().contains_key(*name)) {
        return Some(format!("parameter {name} is unknown to this model"));
    }
    params.vars().iter().find_map(|(name, var)| match weights.get(name) {
        None => Some(format!("parameter {name} is missing")),
        Some(w) if w.shape() != var.shape() => {
            Some(format!("parameter {name} has shape {:?}, this model's has {:?}", w.dims(), var.dims()))
        }
        Some(_) => None,
    })
}
