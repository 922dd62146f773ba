//! What the end-to-end tests of all experiments share.
#![allow(dead_code)] // Each test file uses its part.

use anyhow::{Context, Result, ensure};
use assert_cmd::Command;
use elucidate_report::{RunRecord, write_json};
use predicates::prelude::*;
use std::fs;
use std::path::Path;

/// The experiment's binary. Backtraces would come behind error messages.
pub fn command(binary: &str) -> Command {
    Command::from_std(plain(binary))
}

/// The same for a process that is not waited for.
pub fn plain(binary: &str) -> std::process::Command {
    let mut command = std::process::Command::new(binary);
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LOG");
    command
}

/// Another experiment's binary, beside `own`: built where its package was tested alone.
pub fn other(own: &str, name: &str) -> Result<String> {
    let own = Path::new(own);
    let path = own.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !path.exists() {
        let profile = own.parent().and_then(Path::file_name).context("the folder of a profile")?;
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "-p", name]);
        if profile == "release" {
            cargo.arg("--release");
        }
        ensure!(cargo.status()?.success(), "cannot build {name}");
    }
    Ok(path.to_string_lossy().into_owned())
}

/// A run of it at smoke size into the folder `out`.
pub fn smoke(binary: &str, out: &Path) -> Command {
    let mut command = command(binary);
    command.args(["--preset", "smoke", "--out"]).arg(out);
    command
}

/// Makes a finished run one that was stopped, as `change` says.
pub fn stopped(out: &Path, change: impl FnOnce(&mut RunRecord)) -> Result<()> {
    let mut record = RunRecord::read(out)?;
    record.finished = None;
    change(&mut record);
    write_json(&out.join("run.json"), &record)
}

/// One line on stderr that begins with `error: ` and says `what`; the exit code is not 0.
pub fn refuses(command: &mut Command, what: &str) {
    let one_line =
        predicate::function(|text: &str| text.lines().filter(|line| line.starts_with("error:")).count() == 1);
    let last = what.to_string();
    let says = predicate::function(move |text: &str| {
        text.lines().any(|l| l.starts_with("error:") && l.contains(&last))
    });
    command.assert().failure().stderr(one_line.and(says));
}

/// Fails where one of the files `names` of the folder `out` is missing or empty.
pub fn has_files(out: &Path, names: &[&str]) {
    for name in names {
        assert!(fs::metadata(out.join(name)).is_ok_and(|file| file.len() > 0), "{name} is missing or empty");
    }
}
