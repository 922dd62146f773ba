//! A model's folder: `config.json` and `diffusion_pytorch_model.safetensors`, as diffusers' `save_pretrained` writes
//! and its `from_pretrained` reads them.

use super::config::CLASS;
use super::{ModelFiles, UNet2DConfig, UNet2DModel, WEIGHTS};
use crate::files;
use crate::params::{Params, Tensors, frozen};
use crate::rng::Streams;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use tracing::warn;

pub(super) const CONFIG: &str = "config.json";

/// Writes a model's folder, each file beside its place first and then renamed; the weights in half precision where
/// `half` says so.
///
/// # Errors
/// When a file cannot be written.
pub fn save_model(dir: &Path, config: &UNet2DConfig, tensors: &Tensors, half: bool) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let mut json = serde_json::to_value(config)?;
    if let Value::Object(keys) = &mut json {
        keys.insert("_class_name".to_string(), json!(CLASS));
        keys.insert("_diffusers_version".to_string(), json!("0.30.0"));
    }
    write(&dir.join(CONFIG), serde_json::to_string_pretty(&json)?.as_bytes())?;
    let dtype = if half { DType::F16 } else { DType::F32 };
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(dtype)?.to_device(&Device::Cpu)?)))
        .collect::<candle_core::Result<Vec<(String, Tensor)>>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write(&dir.join(WEIGHTS), &safetensors::serialize(named, Some(metadata))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a model's folder, or a pipeline's ([`ModelFiles::find`]): its configuration and its parameters in f32, which fit
/// each other. Keys of the configuration that are unknown are warned of and passed over.
///
/// # Errors
/// When a file is missing or damaged, when the configuration asks for another network than is built here, and when a
/// parameter is missing, unknown, there twice or of another shape: one line that names the file and what is wrong.
pub fn load_model(dir: &Path, device: &Device) -> Result<(UNet2DConfig, Tensors)> {
    let found = ModelFiles::find(dir)?;
    let path = found.dir().join(CONFIG);
    let text = files::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: UNet2DConfig = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a UNet2DModel's", path.display()))?;
    if let Err(reason) = config.check() {
        bail!("{}: {reason}", path.display());
    }
    warn_of_unknown_keys(&config, &path);
    let tensors = found.parameters(device)?;
    check_names(&config, &tensors)
        .with_context(|| format!("{} does not fit its {CONFIG}", found.named().display()))?;
    Ok((config, tensors))
}

fn warn_of_unknown_keys(config: &UNet2DConfig, path: &Path) {
    let keys = config.unknown_keys();
    if !keys.is_empty() {
        // Escaped: a key may hold the end of a line.
        let keys = keys.join(", ").escape_debug().to_string();
        warn!("{}: keys that {CLASS} does not have are passed over: {keys}", path.display());
    }
}

fn check_names(config: &UNet2DConfig, tensors: &Tensors) -> Result<()> {
    UNet2DModel::new(config, frozen(tensors, &Device::Cpu))?;
    let (_, expected) = Params::init(&Streams::new(0), &Device::Cpu, |vb| UNet2DModel::new(config, vb))?;
    match tensors.keys().find(|name| !expected.vars().contains_key(*name)) {
        Some(unknown) => bail!("parameter {unknown} is unknown"),
        None => Ok(()),
    }
}
