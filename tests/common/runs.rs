//! Comparing the folders of two runs of one command.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use elucidate_core::checkpoint::Checkpoint;
use elucidate_core::params::Tensors;
use elucidate_report::{read_json, read_scalars};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of event files: a session has one, so what they show together is compared.
const TENSORBOARD: &str = "tensorboard";

/// What TensorBoard shows of a run, without rates: in bits.
fn curves(run: &Path) -> Result<BTreeMap<PathBuf, Vec<(usize, u32)>>> {
    let mut curves = BTreeMap::new();
    for entry in fs::read_dir(run.join(TENSORBOARD))? {
        let folder = entry?.path();
        let name = Path::new(folder.file_name().context("a name")?).to_path_buf();
        for (tag, points) in read_scalars(&folder)? {
            if tag != "images_per_second" {
                let points = points.into_iter().map(|(step, value)| (step, value.to_bits())).collect();
                curves.insert(name.join(tag), points);
            }
        }
    }
    Ok(curves)
}

/// How many files two folders have in either, and those that differ in more than times and what a session is.
pub fn differences(a: &Path, b: &Path) -> Result<(usize, Vec<String>)> {
    let mut names = BTreeSet::new();
    for root in [a, b] {
        names.extend(files(root, Path::new(""))?);
    }
    let mut different = vec![];
    for name in &names {
        let same = a.join(name).exists()
            && b.join(name).exists()
            && figures(&a.join(name))? == figures(&b.join(name))?;
        if !same {
            different.push(b.join(name).display().to_string());
        }
    }
    if curves(a)? != curves(b)? {
        different.push(b.join(TENSORBOARD).display().to_string());
    }
    Ok((names.len(), different))
}

fn files(root: &Path, below: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => all.extend(files(root, &name)?),
            false => all.push(name),
        }
    }
    all.retain(|name| name != Path::new(".lock") && name != Path::new("log.txt"));
    all.retain(|name| !name.starts_with(TENSORBOARD));
    Ok(all)
}

/// A file without its times, and without what differs by session.
fn figures(path: &Path) -> Result<Vec<u8>> {
    let text = path.to_string_lossy();
    if text.ends_with("run.json") {
        let mut record: Value = read_json(path)?;
        let keys = record.as_object_mut().context("an object")?;
        for key in ["command_line", "started", "finished", "resumed", "seconds", "git_revision"] {
            keys.remove(key);
        }
        return Ok(record.to_string().into_bytes());
    }
    if text.ends_with("model/README.md") {
        return Ok(card_figures(&fs::read_to_string(path)?).into_bytes());
    }
    if text.contains("/checkpoint/") {
        return checkpoint_figures(path);
    }
    if text.ends_with("samples.csv") || text.contains("/train") && text.ends_with(".csv") {
        return csv_figures(path);
    }
    Ok(fs::read(path)?)
}

/// A model card without its time, its program and its folder.
fn card_figures(text: &str) -> String {
    let differs = |line: &&str| {
        ["- time", "- program"].iter().any(|start| line.starts_with(start))
            || ["--checkpoint ", "--noise-pred ", "from_pretrained("].iter().any(|part| line.contains(part))
    };
    text.lines().filter(|line| !differs(line)).collect::<Vec<_>>().join("\n")
}

fn csv_figures(path: &Path) -> Result<Vec<u8>> {
    const OTHER: [&str; 3] = ["seconds", "images_per_second", "git_revision"];
    let text = fs::read_to_string(path)?;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let header = rows.first().context("a header")?.clone();
    let row = |row: &Vec<&str>| {
        let kept = header.iter().zip(row).filter(|(name, _)| !OTHER.contains(name));
        kept.map(|(_, value)| *value).collect::<Vec<_>>().join(",")
    };
    Ok(rows.iter().map(row).collect::<Vec<_>>().join("\n").into_bytes())
}

fn checkpoint_figures(path: &Path) -> Result<Vec<u8>> {
    let state = Checkpoint::read(path, &Device::Cpu)?;
    let losses = state.history.iter().flat_map(|e| [e.train_loss, e.test_loss]);
    let mut bytes: Vec<u8> = losses.chain([state.so_far.loss_sum]).flat_map(f64::to_le_bytes).collect();
    bytes.extend(state.adam.step.to_le_bytes());
    for tensors in [&state.weights, &state.adam.m, &state.adam.v, &state.adam.ema] {
        bytes.extend(tensor_bytes(tensors)?);
    }
    Ok(bytes)
}

fn tensor_bytes(tensors: &Tensors) -> Result<Vec<u8>> {
    let bytes = |t: &Tensor| -> Result<Vec<u8>> {
        let values = t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.into_iter().flat_map(f32::to_le_bytes).collect())
    };
    Ok(tensors.values().map(bytes).collect::<Result<Vec<_>>>()?.concat())
}
