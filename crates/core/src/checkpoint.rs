//! What going on with a training needs, in one safetensors file.

use crate::optim::AdamState;
use crate::params::{Params, Tensors};
use crate::rng::Streams;
use crate::train::{EpochRecord, TrainOptions};
use atomic_write_file::AtomicWriteFile;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A training between two epochs. Data order and noise are functions of the seed and the place in the run, so the seed
/// is all there is to remember of them.
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
    /// The checkpoint is of another training.
    #[error("{} is of another training: {reason}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
}

/// The numbers beside the tensors, as JSON in the file's metadata.
#[derive(Serialize, Deserialize)]
struct Header {
    options: TrainOptions,
    seed: u64,
    examples: usize,
    step: usize,
    history: Vec<EpochRecord>,
}

const HEADER: &str = "elucidate_checkpoint_1";
const PARTS: [&str; 4] = ["weights.", "adam.m.", "adam.v.", "ema."];

impl Checkpoint {
    /// Writes it beside `path` and renames it, so that `path` is always a whole checkpoint.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let Self { options, seed, examples, weights, adam, history } = self;
        let (options, history) = (options.clone(), history.clone());
        let header = Header { options, seed: *seed, examples: *examples, step: adam.step, history };
        let failed = |source| CheckpointError::Io { verb: "write", path: path.to_path_buf(), source };
        let header = serde_json::to_string(&header).map_err(|e| failed(e.into()))?;
        let tensors = PARTS.iter().zip([weights, &adam.m, &adam.v, &adam.ema]);
        let named =
            tensors.flat_map(|(part, all)| all.iter().map(move |(name, t)| (format!("{part}{name}"), t)));
        let bytes = safetensors::serialize(named, Some(HashMap::from([(HEADER.to_string(), header)])))
            .map_err(|e| failed(std::io::Error::other(e)))?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = AtomicWriteFile::open(path).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.commit().map_err(failed)
    }

    /// Reads it, its tensors onto `device`.
    ///
    /// # Errors
    /// When the file is missing, damaged or no checkpoint.
    pub fn read(path: &Path, device: &Device) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io {
            verb: "read",
            path: path.to_path_buf(),
            source,
        })?;
        let damaged = |reason: String| CheckpointError::Damaged { path: path.to_path_buf(), reason };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(HEADER));
        let header = header.ok_or_else(|| damaged(format!("its metadata lacks {HEADER}")))?;
        let header: Header = serde_json::from_str(header).map_err(|e| damaged(e.to_string()))?;
        let tensors =
            candle_core::safetensors::load_buffer(&bytes, device).map_err(|e| damaged(e.to_string()))?;
        let [weights, m, v, ema] = PARTS.map(|part| part_of(&tensors, part));
        if [&m, &v, &ema].iter().any(|all| !same_parameters(all, &weights)) {
            return Err(damaged("weights, moments and average are not of the same parameters".to_string()));
        }
        let Header { options, seed, examples, step, history } = header;
        Ok(Self { options, seed, examples, weights, adam: AdamState { m, v, ema, step }, history })
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
        } else {
            return Ok(());
        };
        Err(CheckpointError::Other { path: path.to_path_buf(), reason })
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
