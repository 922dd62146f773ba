//! The program, and runs that are made up for it.

use super::common::record;
use anyhow::Result;
use assert_cmd::Command;
use elucidate_report::{RunRecord, SampleRow, write_csv, write_json};
use std::fs;
use std::path::{Path, PathBuf};

/// The program.
pub fn elucidate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_elucidate"))
}

/// A run's folder with these rows, under their experiment's folder in `results`.
///
/// # Errors
/// When a file cannot be written.
pub fn run(results: &Path, name: &str, rows: &[SampleRow]) -> Result<PathBuf> {
    let folder = results.join("23_karras").join(name);
    fs::create_dir_all(&folder)?;
    write_json(&folder.join("run.json"), &RunRecord { run: name.into(), ..record() })?;
    write_csv(&folder.join("samples.csv"), rows)?;
    Ok(folder)
}
