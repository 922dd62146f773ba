//! Files of a run: written beside their place first, then renamed.

use anyhow::{Context, Result, anyhow, ensure};
use atomic_write_file::AtomicWriteFile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The most bytes of a file that is read: what a run writes has a thousandth of them.
const LARGEST: u64 = 1 << 26;

/// The most bytes of a text that is shown.
const LONGEST: usize = 16_000;

/// Makes the folder `path` where it is not there yet, in a folder that is.
///
/// # Errors
/// When it cannot be made.
pub fn create_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if !path.is_dir() => {
            Err(error).with_context(|| format!("cannot make the folder {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file whole or not at all; through a link, the file that it leads to.
///
/// # Errors
/// When it cannot be written, or what is there is no regular file; what was there before is left as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let message = || format!("cannot write {}", path.display());
    let place = regular_place(path).with_context(message)?;
    let mut file = AtomicWriteFile::open(&place).with_context(message)?;
    file.write_all(bytes).with_context(message)?;
    file.commit().with_context(message)
}

/// Where a file of this name is, or would be. To rename a file to a device's or a folder's name would replace the one, and leave the
/// file beside the other.
fn regular_place(path: &Path) -> Result<PathBuf> {
    ensure!(!path.as_os_str().as_encoded_bytes().ends_with(b"/"), "it names a folder");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "there is no folder {} to put it into", folder.display());
    if !is_there(path) {
        return Ok(path.to_path_buf());
    }
    let place = path.canonicalize().context("it is a link that leads nowhere")?;
    ensure!(place.is_file(), "it is not a regular file");
    Ok(place)
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
    let is_file = fs::metadata(path).with_context(message)?.is_file();
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
pub fn check_text(text: &str) -> Result<()> {
    ensure!(text.len() <= LONGEST, "a text of {} bytes, more than {LONGEST}", text.len());
    let beginning: String = text.chars().take(60).collect();
    ensure!(!text.contains(char::is_control), "a control character in {beginning:?}");
    Ok(())
}

/// Reads rows from CSV: as this project writes it, or as pandas and spreadsheets write it again, whole numbers as `100.0` and columns
/// added. What is in columns that a `T` does not have is passed over with a warning.
///
/// # Errors
/// When the file cannot be read or has no header, when a field is longer than 16,000 bytes or holds a control character, or
/// when a row is not a `T`: the error names the line and the column.
pub fn read_csv<T: Serialize + DeserializeOwned + Default>(path: &Path) -> Result<Vec<T>> {
    let bytes = read_file(path)?;
    let message = || format!("{} is damaged or of another kind", path.display());
    let rows = parse_csv(&bytes).with_context(message)?;
    let unknown = unknown_among::<T>(&bytes)?;
    if !unknown.is_empty() {
        tracing::warn!("{} has columns that are passed over: {}", path.display(), unknown.join(", "));
    }
    Ok(rows)
}

/// The columns of a CSV that a `T` does not have.
///
/// # Errors
/// When the file cannot be read.
pub fn unknown_columns<T: Serialize + Default>(path: &Path) -> Result<Vec<String>> {
    unknown_among::<T>(&read_file(path)?)
}

fn unknown_among<T: Serialize + Default>(bytes: &[u8]) -> Result<Vec<String>> {
    // Columns that had another name in an older schema.
    const OLDER: [&str; 2] = ["kid_std_err", "std_err"];
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(T::default())?;
    let row = writer.into_inner().map_err(|error| error.into_error())?;
    let known = csv::Reader::from_reader(row.as_slice()).headers()?.clone();
    let header = csv::Reader::from_reader(bytes).headers()?.clone();
    let is_known = |name: &str| OLDER.contains(&name) || known.iter().any(|column| column == name);
    Ok(header.iter().filter(|name| !is_known(name)).map(str::to_string).collect())
}

fn parse_csv<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>> {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers()?.clone();
    ensure!(!header.is_empty(), "it has no header");
    check_fields(bytes, &header)?;
    let mut rows = vec![];
    for record in reader.records() {
        let mut record = record?;
        check_fields(bytes, &record)?;
        let (position, line) = (record.position().cloned(), line(bytes, &record));
        record = record.iter().map(without_zero_fraction).collect();
        record.set_position(position);
        rows.push(record.deserialize(Some(&header)).map_err(|error| in_column(&error, &header, line))?);
    }
    Ok(rows)
}

/// `100` of `100.0`: so pandas writes the whole numbers of a column in which some are missing.
fn without_zero_fraction(field: &str) -> &str {
    let whole = field.strip_suffix(".0").filter(|whole| whole.parse::<i64>().is_ok());
    whole.unwrap_or(field)
}

/// The error with the name of the column, where it knows its number.
fn in_column(error: &csv::Error, header: &csv::StringRecord, line: u64) -> anyhow::Error {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else { return anyhow!("{error}") };
    match err.field().and_then(|field| header.get(field as usize)) {
        Some(column) => anyhow!("line {line}, column {column}: {}", err.kind()),
        None => anyhow!("line {line}: {}", err.kind()),
    }
}

/// The line of a record of `bytes`. Where lines end with `\r\n`, the reader has a record begin at the `\n` of the line before.
fn line(bytes: &[u8], record: &csv::StringRecord) -> u64 {
    record.position().map_or(1, |at| at.line() + u64::from(bytes.get(at.byte() as usize) == Some(&b'\n')))
}

fn check_fields(bytes: &[u8], record: &csv::StringRecord) -> Result<()> {
    record.iter().try_for_each(check_text).with_context(|| format!("line {}", line(bytes, record)))
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
