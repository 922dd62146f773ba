//! Files from outside and files of our own: read whole and checked, written beside their place and renamed.

use crate::params::{Tensors, is_finite};
use anyhow::{Context, Result, bail, ensure};
use atomic_write_file::AtomicWriteFile;
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Reads a regular file, or one that a link leads to. A device or a pipe has no size, and perhaps no end.
///
/// # Errors
/// When it is not a regular file, or cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    check_regular(path)?;
    fs::read(path)
}

/// To be asked before a file is opened: a pipe would keep the program waiting.
pub(crate) fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// Writes a file whole or not at all: beside its place, then renamed, both on the disk when it returns.
///
/// # Errors
/// When it cannot be written; what was there before is left as it was.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_after(path, bytes, || Ok(()))
}

/// As [`write`], with something done once the bytes are on the disk and before they take their place.
///
/// # Errors
/// As [`write`], and those of `before`.
pub(crate) fn write_after(
    path: &Path,
    bytes: &[u8],
    before: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mut file = AtomicWriteFile::open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    before()?;
    file.commit()
}

/// Deletes what a write that was killed left beside a file of the folder `dir`: `.NAME.` and six characters. To be called
/// where nobody else writes there.
///
/// # Errors
/// When the folder cannot be read, or a file cannot be deleted.
pub fn delete_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let unfinished = |name: &str| Some(name.strip_prefix('.')?.rsplit_once('.')?.1.len() == 6);
        if entry.file_type()?.is_file() && name.to_str().and_then(unfinished) == Some(true) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Reads the tensors of a safetensors file, as they are there.
///
/// # Errors
/// When the file cannot be read or is damaged; each names the file.
pub fn read_tensors(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let bytes = read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_tensors(&bytes, device)
        .with_context(|| format!("{} is damaged or no safetensors file", path.display()))
}

/// The tensors in the bytes of a safetensors file, as they are there.
///
/// # Errors
/// When the header does not describe these bytes, or a tensor is of a type that candle lacks.
pub fn parse_tensors(bytes: &[u8], device: &Device) -> Result<HashMap<String, Tensor>> {
    check_header(bytes)?;
    Ok(candle_core::safetensors::load_buffer(bytes, device)?)
}

/// What a header says of an entry; its metadata has no offsets.
#[derive(Deserialize)]
struct Entry {
    data_offsets: Option<(u64, u64)>,
}

/// Refuses a header whose tensors lie beyond the file. The safetensors crate adds up their sizes without a check, so that
/// those of a lying header may wrap round to the right one.
fn check_header(bytes: &[u8]) -> Result<()> {
    let Some((length, rest)) = bytes.split_first_chunk() else { bail!("it is too short for a header") };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let header = rest.get(..length).context("its header is longer than the file")?;
    let entries: HashMap<String, Entry> = serde_json::from_slice(header)?;
    let data = (rest.len() - length) as u64;
    for (name, Entry { data_offsets }) in entries {
        ensure!(data_offsets.is_none_or(|(_, end)| end <= data), "tensor {name} lies beyond its end");
    }
    Ok(())
}

/// Tensors as a model's parameters: in f32, whatever their float type was.
///
/// # Errors
/// When a value is infinite or not a number.
pub fn parameters(tensors: HashMap<String, Tensor>) -> Result<Tensors> {
    let parameters = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)))
        .collect::<candle_core::Result<Tensors>>()?;
    check_finite(&parameters)?;
    Ok(parameters)
}

/// Refuses tensors among which a value is infinite or not a number.
///
/// # Errors
/// One line that names the first such parameter.
pub fn check_finite(tensors: &Tensors) -> Result<()> {
    for (name, tensor) in tensors {
        ensure!(is_finite(tensor)?, "parameter {name} has values that are not finite");
    }
    Ok(())
}
