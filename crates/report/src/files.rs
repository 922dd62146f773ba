//! Files of a run: written beside their place first, then renamed.

use anyhow::{Context, Result};
use atomic_write_file::AtomicWriteFile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::Path;

/// Writes a file whole or not at all.
///
/// # Errors
/// When it cannot be written; what was there before is left as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let message = || format!("cannot write {}", path.display());
    let mut file = AtomicWriteFile::open(path).with_context(message)?;
    file.write_all(bytes).with_context(message)?;
    file.commit().with_context(message)
}

/// Writes rows as CSV, their fields as columns.
///
/// # Errors
/// When the file cannot be written.
pub fn write_csv<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    write_atomically(path, &bytes)
}

/// Reads rows from CSV.
///
/// # Errors
/// When the file cannot be read, or a row is not a `T`: the error names the line.
pub fn read_csv<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let mut reader =
        csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows = reader.deserialize().collect::<std::result::Result<_, _>>();
    rows.with_context(|| format!("{} is damaged or of another kind", path.display()))
}

/// Writes a value as indented JSON.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write_atomically(path, text.as_bytes())
}

/// Reads a value from JSON.
///
/// # Errors
/// When the file cannot be read, or holds no `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged or of another kind", path.display()))
}
