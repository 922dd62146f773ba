//! A run's model folder, and models that were trained before.

use crate::options::Settings;
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use elucidate_core::params::Tensors;
use elucidate_core::unet::{UNet2DConfig, load_model, save_model};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// The key of config.json that says how the model was trained; diffusers passes over keys that begin with `_`.
const TRAINING: &str = "_elucidate";

#[derive(Serialize, Deserialize)]
struct Training<T> {
    experiment: String,
    settings: Settings,
    own: T,
}

/// Writes the run's model/ and returns what it holds, so that exactly this is sampled: the weights in half precision
/// where `half` says so. `own` are the experiment's own options.
///
/// # Errors
/// When a file cannot be written.
pub fn save<T: Serialize>(
    run: &mut Run,
    config: &UNet2DConfig,
    weights: &Tensors,
    own: T,
    half: bool,
) -> Result<Tensors> {
    let training =
        Training { experiment: run.record.experiment.clone(), settings: run.settings.clone(), own };
    let mut config = config.clone();
    config.others.insert(TRAINING.to_string(), serde_json::to_value(training)?);
    let folder = run.folder.path("model");
    save_model(&folder, &config, weights, half)?;
    let (_, weights) = load_model(&folder, &run.device)?;
    describe(run, &folder, &weights)?;
    Ok(weights)
}

/// Loads the model folder `dir` instead of training one. The run's settings become those that it was trained with, and
/// the experiment's own options must be; of a model that was not trained here nothing is known but its levels.
///
/// # Errors
/// When the folder is damaged, or the model is of another experiment or was trained with other options than `own`.
pub fn load<T: Serialize + DeserializeOwned + PartialEq>(
    run: &mut Run,
    dir: &Path,
    own: &T,
) -> Result<(UNet2DConfig, Tensors)> {
    let given = || format!("--checkpoint {}", dir.display());
    let (config, weights) = load_model(dir, &run.device).with_context(given)?;
    match config.others.get(TRAINING) {
        Some(training) => {
            let training: Training<serde_json::Value> =
                serde_json::from_value(training.clone()).with_context(given)?;
            let (theirs, ours) = (&training.experiment, &run.record.experiment);
            ensure!(theirs == ours, "{}: it is a model of {theirs}, not of {ours}", given());
            let theirs: T = serde_json::from_value(training.own.clone()).with_context(given)?;
            ensure!(
                theirs == *own,
                "{}: it was trained with {}; give the same options",
                given(),
                training.own
            );
            let Settings { preset, seed, samples, test_images, .. } = run.settings;
            run.settings = Settings { preset, seed, samples, test_images, ..training.settings };
        }
        None => {
            run.settings.blocks.clone_from(&config.block_out_channels);
            (run.settings.epochs, run.settings.batch_size) = (0, 0);
        }
    }
    describe(run, dir, &weights)?;
    run.describe(own)?;
    Ok((config, weights))
}

fn describe(run: &mut Run, folder: &Path, weights: &Tensors) -> Result<()> {
    let path = folder.join("diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    run.record.checkpoint_sha256 = Some(format!("{:x}", Sha256::digest(bytes)));
    run.record.parameters = weights.values().map(Tensor::elem_count).sum();
    Ok(())
}
