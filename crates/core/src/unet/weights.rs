//! The files of a model's folder, under the names that diffusers gives them.

use super::folder::CONFIG;
use crate::files;
use crate::params::Tensors;
use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The file of a model's folder that holds its parameters.
pub const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
/// Says which of several files, the shards, hold them.
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";
/// The folder of a pipeline that holds its model.
const OF_PIPELINE: &str = "unet";

/// The files of a model's folder as diffusers' `save_pretrained` writes them.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    dir: PathBuf,
    /// What stands for the weights: their file, or the index.
    named: PathBuf,
    /// The parameters that the index puts into each file.
    shards: BTreeMap<PathBuf, Vec<String>>,
}

/// What an index says.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ModelFiles {
    /// Finds the files of the model in `dir`, or of the pipeline in `dir`, whose model is in `unet/`. The weights are, as
    /// diffusers has it, the shards of an index, else [`WEIGHTS`]; else those of a variant
    /// (`diffusion_pytorch_model.fp16.safetensors`), where there is only one.
    ///
    /// # Errors
    /// When there is no configuration, when there are no weights as safetensors or those of several variants, and when the
    /// index is damaged or names a file of another folder: one line that says what is there instead.
    pub fn find(dir: &Path) -> Result<Self> {
        let below = dir.join(OF_PIPELINE);
        let is_pipeline = !dir.join(CONFIG).exists() && below.join(CONFIG).exists();
        let dir = if is_pipeline { below } else { dir.to_path_buf() };
        let names =
            names(&dir).with_context(|| format!("cannot read the model's folder {}", dir.display()))?;
        ensure!(
            names.iter().any(|name| name == CONFIG),
            "{} is not there{}: a model's folder holds {CONFIG} and {WEIGHTS}",
            dir.join(CONFIG).display(),
            only(names.iter())
        );
        let named = dir.join(weights_among(&names).with_context(|| format!("in {}", dir.display()))?);
        let shards = match named.extension() == Some(OsStr::new("json")) {
            true => shards(&named).with_context(|| format!("cannot use {}", named.display()))?,
            false => BTreeMap::from([(named.clone(), vec![])]),
        };
        Ok(Self { dir, named, shards })
    }

    /// The folder that they are in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files of weights, in the order of their names.
    pub fn weights(&self) -> Vec<&Path> {
        self.shards.keys().map(PathBuf::as_path).collect()
    }

    /// What stands for the weights in a message.
    pub(super) fn named(&self) -> &Path {
        &self.named
    }

    /// The parameters in f32, under the names that diffusers has today.
    ///
    /// # Errors
    /// When a file is missing or damaged, lacks a parameter that the index puts there, or holds one that is not finite, and
    /// when a parameter is there twice.
    pub(super) fn parameters(&self, device: &Device) -> Result<Tensors> {
        let mut all = Tensors::new();
        for (path, expected) in &self.shards {
            let tensors = files::parameters(files::read_tensors(path, device)?)
                .with_context(|| format!("{} is not a model's", path.display()))?;
            if let Some(missing) = expected.iter().find(|name| !tensors.contains_key(*name)) {
                bail!("{} lacks parameter {missing}, which the index puts there", path.display());
            }
            for (name, tensor) in tensors {
                let name = name_of_today(name);
                ensure!(!all.contains_key(&name), "{}: parameter {name} is there twice", path.display());
                all.insert(name, tensor);
            }
        }
        Ok(all)
    }
}

/// The names in a folder, sorted; those that are no text are not diffusers'.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = vec![];
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Which of a folder's files stands for its weights.
fn weights_among(names: &[String]) -> Result<&str> {
    if let Some(name) = [INDEX, WEIGHTS].into_iter().find(|&wanted| names.iter().any(|name| name == wanted)) {
        return Ok(name);
    }
    let mut variants: Vec<(&str, &str)> =
        names.iter().filter_map(|name| Some((variant(name)?, name.as_str()))).collect();
    // The index of a variant comes after its file, and so takes its place.
    variants.sort_by_key(|(_, name)| name.ends_with(".json"));
    let mut variants = BTreeMap::from_iter(variants).into_values();
    match (variants.next(), variants.next()) {
        (Some(name), None) => Ok(name),
        (Some(first), Some(second)) => {
            bail!("{first} and {second} are there: name the one that is meant {WEIGHTS}")
        }
        (None, _) => bail!("{WEIGHTS} is not there{}", only(names.iter().filter(|&name| name != CONFIG))),
    }
}

/// The variant whose file of weights or index has this name.
fn variant(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("diffusion_pytorch_model.")?;
    // Older versions of diffusers had the variant before `index`.
    let variant = match (rest.strip_prefix("safetensors.index."), rest.strip_prefix("safetensors.")) {
        (Some(rest), _) => rest.strip_suffix(".json")?,
        (None, Some(rest)) => rest.strip_suffix(".index.json")?,
        (None, None) => rest.strip_suffix(".safetensors")?,
    };
    // A shard, whose index would name it.
    (!variant.contains("-of-")).then_some(variant)
}

/// What is there instead: the first of `names`.
fn only<'a>(names: impl Iterator<Item = &'a String>) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    let is_pickle = |name: &&str| [".bin", ".ckpt", ".pt", ".pth"].iter().any(|end| name.ends_with(end));
    if let Some(pickle) = names.iter().find(|name| is_pickle(name)) {
        return format!(": only {pickle} is there, a pickle: save it as safetensors");
    }
    let more = if names.len() > SHOWN { " and others" } else { "" };
    names.truncate(SHOWN);
    match names.len() {
        0 => String::new(),
        1 => format!(": only {} is there", names[0]),
        _ => format!(": only {}{more} are there", names.join(", ")),
    }
}

/// The parameters that the index at `path` puts into each file beside it.
fn shards(path: &Path) -> Result<BTreeMap<PathBuf, Vec<String>>> {
    let index: Index = serde_json::from_slice(&files::read(path)?)?;
    let mut shards: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (parameter, file) in index.weight_map {
        let is_name = Path::new(&file).file_name() == Some(OsStr::new(&file));
        ensure!(is_name, "it puts parameter {parameter} into {file:?}, which is not a file of its folder");
        shards.entry(path.with_file_name(file)).or_default().push(parameter);
    }
    ensure!(!shards.is_empty(), "it names no file");
    Ok(shards)
}

/// What diffusers calls a parameter today: it once had other names for the layers of attention.
fn name_of_today(name: String) -> String {
    let parts = || {
        let (layer, parameter) = name.rsplit_once('.')?;
        let (attention, layer) = layer.rsplit_once('.')?;
        let layer = match layer {
            "query" => "to_q",
            "key" => "to_k",
            "value" => "to_v",
            "proj_attn" => "to_out.0",
            _ => return None,
        };
        Some(format!("{attention}.{layer}.{parameter}"))
    };
    parts().unwrap_or(name)
}
