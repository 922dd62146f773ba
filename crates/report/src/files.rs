//! Files of a run: written beside their place first, then renamed.

use anyhow::{Context, Result, ensure};
use atomic_write_file::AtomicWriteFile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// The most bytes of a file that is read: what a run writes has a thousandth of them.
const LARGEST: u64 = 1 << 26;

/// The most bytes of a text that is shown.
const LONGEST: usize = 16_000;

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

/// Reads a whole file.
///
/// # Errors
/// When it cannot be read, is no regular file (a pipe may wait and a device go on for ever), or has more than 64 MiB.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let message = || format!("cannot read {}", path.display());
    // Asked before it is opened: opening a pipe waits for whoever writes to it.
    let is_file = std::fs::metadata(path).with_context(message)?.is_file();
    ensure!(is_file, "{}: it is not a regular file", message());
    let mut bytes = vec![];
    let mut file = File::open(path).with_context(message)?.take(LARGEST + 1);
    file.read_to_end(&mut bytes).with_context(message)?;
    ensure!(bytes.len() as u64 <= LARGEST, "{}: it has more than {LARGEST} bytes", message());
    Ok(bytes)
}

/// Whether there is something of this name. A link that leads nowhere is: it must not pass for a file that was left out.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Refuses text that a chart cannot show or a terminal should not.
///
/// # Errors
/// When it is longer than 16,000 bytes or holds a control character.
pub(crate) fn check_text(text: &str) -> Result<()> {
    ensure!(text.len() <= LONGEST, "a text of {} bytes, more than {LONGEST}", text.len());
    ensure!(!text.contains(char::is_control), "a control character in {text:?}");
    Ok(())
}

/// Reads rows from CSV.
///
/// # Errors
/// When the file cannot be read or has no header, when a field is longer than 16,000 bytes or holds a control character, or
/// when a row is not a `T`: the error names the line.
pub fn read_csv<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bytes = read_file(path)?;
    parse_csv(&bytes).with_context(|| format!("{} is damaged or of another kind", path.display()))
}

fn parse_csv<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>> {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers()?.clone();
    ensure!(!header.is_empty(), "it has no header");
    check_fields(&header)?;
    let mut rows = vec![];
    for record in reader.records() {
        let record = record?;
        check_fields(&record)?;
        rows.push(record.deserialize(Some(&header))?);
    }
    Ok(rows)
}

fn check_fields(record: &csv::StringRecord) -> Result<()> {
    let line = record.position().map_or(1, csv::Position::line);
    record.iter().try_for_each(check_text).with_context(|| format!("line {line}"))
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
    let bytes = read_file(path)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is damaged or of another kind", path.display()))
}
