//! What the experiments, `elucidate` and `sweep` do alike on a terminal: short help, completions for shells, lines, and how they end.

use anyhow::{Context, Result};
use clap::builder::{Resettable, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};
use clap_complete::Shell;
use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// The environment variable that asks a program for its completions, as in `COMPLETE=bash elucidate`.
const COMPLETE: &str = "COMPLETE";

/// The command line of this process, as `command` reads it. Ends the process where help is asked for, or, by the environment variable
/// COMPLETE, a shell's completions.
pub fn arguments(command: Command) -> ArgMatches {
    let mut command = command.disable_help_flag(true).arg(
        Arg::new("help")
            .short('h')
            .long("help")
            .global(true)
            .action(ArgAction::HelpShort)
            .value_parser(ValueParser::bool())
            .help_heading(Resettable::Reset)
            .help("Print this"),
    );
    // As clap_complete has it: empty or 0 is no shell. Where there are arguments, a program is to run.
    let shell = std::env::var(COMPLETE).ok().filter(|shell| !["", "0"].contains(&shell.as_str()));
    if let Some(shell) = shell.filter(|_| std::env::args_os().len() == 1) {
        match shell.parse::<Shell>() {
            Ok(shell) => {
                let name = command.get_name().to_string();
                let mut script = vec![];
                clap_complete::generate(shell, &mut command, name, &mut script);
                let written = say(&String::from_utf8_lossy(&script));
                written.as_ref().err().iter().for_each(|error| say_aside(&format!("error: {error:#}")));
                std::process::exit(i32::from(written.is_err()));
            }
            Err(_) => {
                let known = "bash, elvish, fish, powershell or zsh";
                say_aside(&format!("error: {COMPLETE}={shell}: there are completions for {known}"));
                std::process::exit(1);
            }
        }
    }
    command.get_matches()
}

/// The `main` of a program that only reads and writes files: its log goes to stderr, an error is one line there.
pub fn main<O: Parser>(run: impl FnOnce(&O) -> Result<ExitCode>) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .init();
    let options = O::from_arg_matches(&arguments(O::command())).unwrap_or_else(|error| error.exit());
    run(&options).unwrap_or_else(|error| {
        say_aside(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Prints a line. Whoever closed the pipe has read enough: that is no failure.
///
/// # Errors
/// When stdout cannot be written.
pub fn say(line: &str) -> Result<()> {
    let mut stdout = io::stdout();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// A line on stderr. Where that is closed, nobody reads it: no reason to panic.
pub fn say_aside(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A word as a POSIX shell reads it.
pub fn quoted(word: &str) -> Cow<'_, str> {
    // Only a NUL cannot be quoted, and no argument or path has one.
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word))
}
