//! The files of the committed runs.

use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Every committed file that `wanted` takes, with its path.
///
/// # Errors
/// When there is none.
pub fn committed(wanted: impl Fn(&Path) -> bool) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = vec![];
    for experiment in entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results"))? {
        for run in entries(&experiment)? {
            for path in entries(&run)?.into_iter().filter(|path| wanted(path)) {
                let bytes = fs::read(&path)?;
                files.push((path, bytes));
            }
        }
    }
    ensure!(!files.is_empty(), "there are no such files in results");
    Ok(files)
}

/// What is in a folder, in the order of the names; nothing where it is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let mut paths = vec![];
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The file's name.
pub fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}
