//! The model that reads the noise level off an image: trained by 22_noise_pred, used by 22_no_t.

use crate::run::Run;
use crate::train::model::{
    MODEL, Training, check_experiment, describe, folder, half_precision, saved, training, uses,
};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use elucidate_core::files;
use elucidate_core::params::{Tensors, frozen};
use elucidate_core::residual::NoiseLevelNetwork;
use elucidate_core::rng::Streams;
use elucidate_report::{read_json, write_atomically, write_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
/// Channels of a block; what is above is no model's.
const LARGEST: usize = 1 << 16;

/// The experiment that trains it.
pub const EXPERIMENT: &str = "22_noise_pred";

/// What config.json calls the network.
const CLASS: &str = "NoiseLevelNetwork";
/// What it called the network whose head was the classifier's.
const OLDER_CLASS: &str = "ResidualClassifier";

/// [`NoiseLevelNetwork`]: x_t (n, 1, 32, 32) to an estimate of logit ᾱ for each image.
#[derive(Debug, Clone)]
pub struct NoiseLevelModel {
    network: NoiseLevelNetwork,
}

#[derive(Serialize, Deserialize)]
struct Config {
    #[serde(rename = "_class_name")]
    class: String,
    block_out_channels: [usize; 6],
    #[serde(rename = "_elucidate")]
    training: Value,
}

impl NoiseLevelModel {
    /// With these channels in its six blocks.
    ///
    /// # Errors
    /// When `vb` lacks a parameter in its shape.
    pub fn new(channels: [usize; 6], vb: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self { network: NoiseLevelNetwork::new(channels, vb)? })
    }

    /// One value an image, (n).
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.network.forward(x)
    }

    /// One value an image, (n), as training has it: [`NoiseLevelNetwork::forward_in_training`].
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward_in_training(
        &self,
        x: &Tensor,
        streams: &Streams,
        positions: &[u64],
    ) -> candle_core::Result<Tensor> {
        self.network.forward_in_training(x, streams, positions)
    }

    /// Writes the run's model/, those of smoke and quick in half precision, and returns what it
    /// holds.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save<T: Serialize>(
        run: &mut Run,
        channels: [usize; 6],
        weights: &Tensors,
        own: &T,
    ) -> Result<Self> {
        let folder = run.folder.path(MODEL);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let training = training(run, own)?;
        let class = CLASS.to_string();
        write_json(&folder.join(CONFIG), &Config { class, block_out_channels: channels, training })?;
        let dtype = if half_precision(run) { DType::F16 } else { DType::F32 };
        let weights: BTreeMap<&str, Tensor> = weights
            .iter()
            .map(|(name, tensor)| Ok((name.as_str(), tensor.to_dtype(dtype)?.to_device(&Device::Cpu)?)))
            .collect::<candle_core::Result<_>>()?;
        write_atomically(&folder.join(WEIGHTS), &safetensors::serialize(weights, None)?)?;
        let (model, weights, _) = read(&folder, &run.device)?;
        describe(run, &[&folder.join(WEIGHTS)], &weights)?;
        Ok(model)
    }

    /// Reads a model folder of 22_noise_pred, or that of a run.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model is of another experiment; each names the file.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let dir = folder(dir);
        check_experiment(&dir, EXPERIMENT)?;
        Ok(read(&dir, device)?.0)
    }

    /// The model in the folder `dir`, to be measured instead of one that is trained here. The run's training settings become those
    /// that it was trained with.
    ///
    /// # Errors
    /// As [`NoiseLevelModel::load`], and when config.json does not say how it was trained.
    pub fn given<T: Serialize>(run: &mut Run, dir: &Path, own: &T) -> Result<Self> {
        let dir = folder(dir);
        check_experiment(&dir, EXPERIMENT)?;
        let (model, weights, training) = read(&dir, &run.device)?;
        let training: Training<Value> = serde_json::from_value(training)
            .with_context(|| format!("{}: how it was trained", dir.join(CONFIG).display()))?;
        run.settings.training = training.settings.training;
        describe(run, &[&dir.join(WEIGHTS)], &weights)?;
        run.describe(own)?;
        Ok(model)
    }

    /// The run's own model, where it was trained and saved before the run was stopped.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn saved(run: &mut Run) -> Result<Option<Self>> {
        let Some(saved) = saved(run, WEIGHTS) else { return Ok(None) };
        let (model, weights, _) = read(&saved, &run.device)?;
        describe(run, &[&saved.join(WEIGHTS)], &weights)?;
        Ok(Some(model))
    }

    /// The model of another run, in the folder `dir`, which is written down in run.json.
    ///
    /// # Errors
    /// As [`NoiseLevelModel::load`], and when the run began with another model.
    pub fn load_other(run: &mut Run, dir: &Path) -> Result<Self> {
        let model = Self::load(dir, &run.device)?;
        let dir = folder(dir);
        uses(run, EXPERIMENT, &dir, &[&dir.join(WEIGHTS)])?;
        Ok(model)
    }
}

/// The model in the folder `dir`, its weights, and how config.json says that it was trained.
fn read(dir: &Path, device: &Device) -> Result<(NoiseLevelModel, Tensors, Value)> {
    let config: Config = read_json(&dir.join(CONFIG))?;
    ensure!(
        config.class != OLDER_CLASS,
        "{}: {OLDER_CLASS} is the older network, with batch norm on its answer and no dropout; this version's is {CLASS}: \
         train it anew with `just exp-22-noise-pred`",
        dir.join(CONFIG).display()
    );
    ensure!(
        config.class == CLASS,
        "{}: _class_name is {:?}, not {CLASS}",
        dir.join(CONFIG).display(),
        config.class
    );
    let path = dir.join(WEIGHTS);
    let misfit = || format!("{} does not fit its {CONFIG}", path.display());
    let parameters = files::parameters(files::read_tensors(&path, device)?)
        .with_context(|| format!("{} is not a model's", path.display()))?;
    if config.block_out_channels.iter().any(|channels| !(1..=LARGEST).contains(channels)) {
        bail!("{}: each block needs 1 to {LARGEST} channels", dir.join(CONFIG).display());
    }
    let model =
        NoiseLevelModel::new(config.block_out_channels, frozen(&parameters, device)).with_context(misfit)?;
    Ok((model, parameters, config.training))
}
