//! A folder that one process at a time writes into, and what is in it before there is a run.json.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

/// The file in the folder that is locked.
const LOCK: &str = ".lock";
/// A run's log in its folder.
pub const LOG: &str = "log.txt";

/// Makes `folder` this process's own for as long as the file is open that is returned; the system gives it back however the process
/// ends. Nothing where another process has it. On a file system without locks everybody gets it.
///
/// # Errors
/// When nothing can be written into the folder.
pub fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => Err(error),
        _ => Ok(Some(file)),
    }
}

/// Whether a process has `folder` to itself; nothing where that cannot be known.
pub fn is_locked(folder: &Path) -> Option<bool> {
    let path = folder.join(LOCK);
    // Opening a pipe waits for whoever writes to it.
    let file = path.is_file().then(|| File::open(&path).ok()).flatten()?;
    match file.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

/// Whether `folder` holds more than a run leaves there that was killed before its first run.json.
pub fn is_taken(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name() != LOCK && entry.file_name() != LOG)
}
