//! What the end-to-end tests of all experiments share.

use assert_cmd::Command;
use predicates::prelude::*;
use std::fs;
use std::path::Path;

/// The experiment's binary. Backtraces would come behind error messages.
pub fn command(binary: &str) -> Command {
    let mut command = Command::new(binary);
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LOG");
    command
}

/// A run of it at smoke size into the folder `out`.
pub fn smoke(binary: &str, out: &Path) -> Command {
    let mut command = command(binary);
    command.args(["--preset", "smoke", "--out"]).arg(out);
    command
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
