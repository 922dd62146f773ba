//! A run's model folder, and models that were trained before.

use crate::evaluate::preview::Preview;
use crate::run::Run;
use crate::run::options::{Preset, RunOptions, Settings};
use crate::train::objective::Objective;
use crate::train::recipe::{Recipe, train};
use crate::train::uncertainty::Uncertainty;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use elucidate_core::files;
use elucidate_core::params::{Tensors, frozen};
use elucidate_core::unet::{ModelFiles, UNet2DConfig, UNet2DModel, WEIGHTS, load_model, save_model};
use elucidate_report::{OtherModel, RunRecord, read_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use tracing::info;

/// The run's own model, in its folder.
pub(crate) const MODEL: &str = "model";

/// The key of config.json that says how the model was trained; diffusers passes over keys that begin with `_`.
const TRAINING: &str = "_elucidate";

/// How a model was trained, as its config.json says it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Training<T> {
    experiment: String,
    pub(crate) settings: Settings,
    own: T,
}

/// The run's UNet: trained here on `objective` and saved, or made before where `--checkpoint` names its folder. `own` are the
/// experiment's own options.
///
/// # Errors
/// When the training fails, the model in the folder is another one, or a file cannot be read or written.
pub fn obtain<T: Serialize + DeserializeOwned + PartialEq>(
    run: &mut Run,
    options: &RunOptions,
    own: &T,
    objective: &Objective,
) -> Result<(UNet2DConfig, UNet2DModel)> {
    let (config, weights) = match (&options.checkpoint, saved(run, WEIGHTS)) {
        (Some(dir), _) => load(run, dir, own)?,
        (None, Some(folder)) => {
            let (config, weights) = load_model(&folder, &run.device)?;
            describe(run, &[&folder.join(WEIGHTS)], &weights)?;
            (config, weights)
        }
        (None, None) => {
            let config = run.settings.training.unet();
            let weights = run.phase("training", |run| trained(run, &config, objective))?;
            let weights = save(run, &config, &weights, own)?;
            (config, weights)
        }
    };
    let model = UNet2DModel::new(&config, frozen(&weights, &run.device))?;
    Ok((config, model))
}

/// The folder of a model, `given` on the command line: itself, or of a run's folder the model in it.
pub fn folder(given: &Path) -> PathBuf {
    let inside = given.join(MODEL);
    if !given.join("config.json").exists() && inside.is_dir() { inside } else { given.to_path_buf() }
}

/// Refuses `--checkpoint` where [`obtain`] would, before the run has a folder.
///
/// # Errors
/// When it is no model's folder, or the model is another experiment's, was trained with other options than `own`, or is not for
/// images of one channel.
pub fn check_checkpoint<T: Serialize + DeserializeOwned + PartialEq>(
    options: &RunOptions,
    experiment: &str,
    own: &T,
) -> Result<()> {
    let Some(dir) = &options.checkpoint else { return Ok(()) };
    read(dir, experiment, own, &Device::Cpu).map(|_| ()).with_context(|| given("--checkpoint", dir))
}

/// Refuses the folder of another experiment's model where [`load_other`] would.
///
/// # Errors
/// When it is no model's folder, or the model is of another experiment.
pub fn check_other(dir: &Path, experiment: &str, option: &str) -> Result<()> {
    let check = || load_grey(find(dir, experiment)?.dir(), &Device::Cpu);
    check().map(|_| ()).with_context(|| given(option, dir))
}

fn given(option: &str, dir: &Path) -> String {
    format!("{option} {}", dir.display())
}

/// The files of the UNet that `given` leads to, which must not be another experiment's than `ours`.
fn find(given: &Path, ours: &str) -> Result<ModelFiles> {
    let dir = folder(given);
    let found = ModelFiles::find(&dir);
    // Whose model it is says more than which files it lacks.
    let of = found.as_ref().map_or(dir.as_path(), ModelFiles::dir);
    if of.join("config.json").exists() {
        check_experiment(of, ours)?;
    }
    found
}

/// The UNet of a folder, which must be for images of one channel.
fn load_grey(dir: &Path, device: &Device) -> Result<(UNet2DConfig, Tensors)> {
    let (config, weights) = load_model(dir, device)?;
    let channels = (config.in_channels, config.out_channels);
    ensure!(
        channels == (1, 1),
        "a model from {} to {} channels, where Fashion-MNIST has one",
        channels.0,
        channels.1
    );
    Ok((config, weights))
}

/// The averaged weights of a UNet that was trained on `objective`.
fn trained(run: &mut Run, config: &UNet2DConfig, objective: &Objective) -> Result<Tensors> {
    let (networks, params) = objective.networks(config)?;
    run.record.parameters = params.count();
    info!("{} parameters", params.count());
    let device = run.device.clone();
    let model = |weights: &Tensors| UNet2DModel::new(config, frozen(weights, &device));
    let mut preview = Preview::new(run, objective)?;
    let mut weights = train(
        run,
        &params,
        Recipe::default(),
        |shard| objective.training_loss(&networks, shard),
        |weights| objective.test_loss(&model(weights)?),
        |epoch, weights, events| preview.after_epoch(epoch, &objective.denoiser(&model(weights)?), events),
    )?;
    weights.retain(|name, _| !name.starts_with(Uncertainty::PREFIX));
    Ok(weights)
}

/// The UNet of the folder `dir`, which `experiment` trained, and what the command line calls it: `option`. It is written
/// down in run.json.
///
/// # Errors
/// When the folder is damaged, the model is of another experiment, or the run began with another one.
pub fn load_other(run: &mut Run, dir: &Path, experiment: &str, option: &str) -> Result<UNet2DModel> {
    let given = || given(option, dir);
    let files = find(dir, experiment).with_context(given)?;
    let (config, weights) = load_grey(files.dir(), &run.device).with_context(given)?;
    uses(run, experiment, files.dir(), &files.weights()).with_context(given)?;
    Ok(UNet2DModel::new(&config, frozen(&weights, &run.device))?)
}

/// The own options of `experiment` that it trained the model in the folder `given` with.
///
/// # Errors
/// When it is no model's folder, the model is another experiment's, or its config.json does not tell them.
pub fn own_options<T: DeserializeOwned>(given: &Path, experiment: &str) -> Result<T> {
    let path = find(given, experiment)?.dir().join("config.json");
    let config: Value = read_json(&path)?;
    let training = config.get(TRAINING).cloned().unwrap_or_default();
    let training: Training<T> = serde_json::from_value(training)
        .with_context(|| format!("{} does not say how the model was trained", path.display()))?;
    Ok(training.own)
}

/// Writes down that the run uses the model of `experiment` in the folder `dir`, with its files of weights.
///
/// # Errors
/// When a file cannot be read, or the run began with another model.
pub(crate) fn uses(run: &mut Run, experiment: &str, dir: &Path, weights: &[&Path]) -> Result<()> {
    let model = OtherModel { folder: dir.display().to_string(), sha256: sha256(weights)? };
    if let Some(first) = run.record.models.get(experiment) {
        ensure!(
            first.sha256 == model.sha256,
            "the run began with another model ({}, SHA-256 {})",
            first.folder,
            first.sha256
        );
    }
    run.record.models.insert(experiment.to_string(), model);
    run.save()
}

/// The model folder of the newest finished run of `experiment` in results/, of one with the preset of `options` where there is any: models
/// of one length are compared.
///
/// # Errors
/// When there is none: one line that says how to get one; `option` names another. With `--device cuda` where there is none.
pub fn newest(experiment: &str, options: &RunOptions, option: &str) -> Result<PathBuf> {
    let preset = options.preset_on(options.open_device()?.is_cuda()).name();
    let finished = |run: PathBuf| -> Option<(bool, String, PathBuf)> {
        let record = RunRecord::read(&run).ok()?;
        let model = run.join("model");
        let alike = record.preset() == Some(preset);
        model.join("config.json").is_file().then_some((alike, record.finished?, model))
    };
    let runs = fs::read_dir(Path::new("results").join(experiment));
    let found = runs.into_iter().flatten().flatten().filter_map(|run| finished(run.path())).max();
    found.map(|(_, _, model)| model).with_context(|| {
        let recipe = experiment.replace('_', "-");
        format!("there is no finished run in results/{experiment}: `just exp-{recipe}` makes one, {option} DIR names another model")
    })
}

/// Writes the run's model/ and returns what it holds, so that exactly this is sampled: the weights in half precision
/// unless the run is a long one.
fn save<T: Serialize>(run: &mut Run, config: &UNet2DConfig, weights: &Tensors, own: &T) -> Result<Tensors> {
    let mut config = config.clone();
    config.others.insert(TRAINING.to_string(), training(run, own)?);
    let folder = run.folder.path(MODEL);
    save_model(&folder, &config, weights, half_precision(run))?;
    let (_, weights) = load_model(&folder, &run.device)?;
    describe(run, &[&folder.join(WEIGHTS)], &weights)?;
    Ok(weights)
}

/// The folder of the run's own model, with the file `weights`, where it was trained and saved before the run was stopped.
pub(crate) fn saved(run: &Run, weights: &str) -> Option<PathBuf> {
    let folder = run.folder.path(MODEL);
    (run.is_resumed() && folder.join(weights).exists()).then_some(folder)
}

/// Whether the run's weights are written in half precision: those of long runs are not.
pub(crate) fn half_precision(run: &Run) -> bool {
    matches!(run.settings.preset, Preset::Smoke | Preset::Quick)
}

/// How the run's model was trained, for its config.json.
pub(crate) fn training<T: Serialize>(run: &Run, own: &T) -> Result<Value> {
    let experiment = run.record.experiment.clone();
    Ok(serde_json::to_value(Training { experiment, settings: run.settings.clone(), own })?)
}

/// Refuses a model's folder whose config.json names another experiment than `ours`.
pub(crate) fn check_experiment(dir: &Path, ours: &str) -> Result<()> {
    let config: Value = read_json(&dir.join("config.json"))?;
    if let Some(theirs) = config.get(TRAINING).and_then(|training| training.get("experiment")) {
        ensure!(theirs == ours, "it is a model of {}, not of {ours}", theirs.as_str().unwrap_or("nothing"));
    }
    Ok(())
}

/// Loads the model folder `dir` instead of training one. The run's settings become those that it was trained with; of a model
/// that was not trained here nothing is known but its levels.
fn load<T: Serialize + DeserializeOwned + PartialEq>(
    run: &mut Run,
    dir: &Path,
    own: &T,
) -> Result<(UNet2DConfig, Tensors)> {
    let read = read(dir, &run.record.experiment, own, &run.device);
    let Read { files, config, weights, settings } = read.with_context(|| given("--checkpoint", dir))?;
    match settings {
        Some(settings) => run.settings.training = settings.training,
        None => {
            run.settings.training.blocks.clone_from(&config.block_out_channels);
            (run.settings.training.epochs, run.settings.training.batch_size) = (0, 0);
        }
    }
    describe(run, &files.weights(), &weights)?;
    run.describe(own)?;
    Ok((config, weights))
}

/// A model that was trained before.
struct Read {
    files: ModelFiles,
    config: UNet2DConfig,
    weights: Tensors,
    /// What it was trained with, where it was trained here.
    settings: Option<Settings>,
}

/// The model in the folder `dir`, which, where it was trained here, `experiment` trained with the options `own`.
fn read<T: Serialize + DeserializeOwned + PartialEq>(
    dir: &Path,
    experiment: &str,
    own: &T,
    device: &Device,
) -> Result<Read> {
    let files = find(dir, experiment)?;
    let (config, weights) = load_grey(files.dir(), device)?;
    let Some(training) = config.others.get(TRAINING) else {
        return Ok(Read { files, config, weights, settings: None });
    };
    let training: Training<Value> = serde_json::from_value(training.clone())?;
    let theirs: T = serde_json::from_value(training.own.clone())?;
    ensure!(
        theirs == *own,
        "it was trained with {}; give the same options",
        what_differs(&training.own, &serde_json::to_value(own)?)
    );
    Ok(Read { files, config, weights, settings: Some(training.settings) })
}

/// What `theirs` holds and `ours` does not, as `option value`.
fn what_differs(theirs: &Value, ours: &Value) -> String {
    let Value::Object(options) = theirs else { return theirs.to_string() };
    let differ = |(name, value): &(&String, &Value)| ours.get(name) != Some(value);
    let of_option = |(name, value): (&String, &Value)| match value {
        Value::Object(_) => what_differs(value, &ours[name]),
        _ => format!("{name} {value}"),
    };
    options.iter().filter(differ).map(of_option).collect::<Vec<_>>().join(", ")
}

/// Writes down which weights are sampled.
pub(crate) fn describe(run: &mut Run, files: &[&Path], weights: &Tensors) -> Result<()> {
    run.record.checkpoint_sha256 = Some(sha256(files)?);
    run.record.parameters = weights.values().map(Tensor::elem_count).sum();
    Ok(())
}

/// SHA-256 of the files, one after the other.
fn sha256(paths: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(files::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(format!("{:x}", hash.finalize()))
}
