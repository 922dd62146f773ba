//! What every experiment's `main` does: read the options, those of the run that is gone on with, run, say how it ended.

use crate::run::DryRun;
use crate::run::interrupt::{self, Interrupted};
use crate::run::options::RunOptions;
use anyhow::{Context, Result, anyhow, ensure};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Parser};
use elucidate_report::RunRecord;
use elucidate_report::terminal::{arguments, quoted, say, say_aside};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

/// An experiment's command line.
pub trait CommandLine: Parser {
    /// The experiment's name, as its folder under results/ has it.
    const EXPERIMENT: &'static str;

    /// The options that every experiment has.
    fn run_options(&mut self) -> &mut RunOptions;
}

/// Options that may be given beside --resume: none of them changes a figure.
const BESIDE_RESUME: [&str; 6] =
    ["resume", "device", "threads", "sampling_batch_size", "data_dir", "checkpoint_minutes"];

/// The commit that a program was built from, with `-dirty` behind it where files differed from it; "unknown" where there was no
/// repository. A macro, since it is to be asked where the program itself is built.
#[macro_export]
macro_rules! git_revision {
    () => {
        $crate::git_version::git_version!(
            args = ["--always", "--abbrev=40", "--exclude=*", "--dirty=-dirty"],
            fallback = "unknown"
        )
    };
}

static REVISION: OnceLock<&'static str> = OnceLock::new();

/// The revision that [`main`] was told.
pub(crate) fn git_revision() -> &'static str {
    REVISION.get().copied().unwrap_or("unknown")
}

/// Runs an experiment with the options of this process's command line; with `--resume` those of the command that began
/// the run. Ends with 0; with 1 after one line on stderr that says what went wrong; or with 130 or 143 after one that says
/// how to go on, where SIGINT or SIGTERM came. `revision` is what the macro `git_revision!` says of the program.
pub fn main<O: CommandLine>(revision: &'static str, run: impl FnOnce(&O) -> Result<()>) -> ExitCode {
    REVISION.get_or_init(|| revision);
    let result = options::<O>().and_then(|options| options.as_ref().map_or(Ok(()), run));
    let Err(error) = result else { return ExitCode::SUCCESS };
    if let Some(DryRun(options)) = error.downcast_ref() {
        return match say(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say_aside(&format!("error: {error:#}"));
                ExitCode::FAILURE
            }
        };
    }
    let (word, code) = match interrupted(&error) {
        Some(interrupted) => ("stopped", ExitCode::from(interrupted.exit_code())),
        None => ("error", ExitCode::FAILURE),
    };
    say_aside(&format!("{word}: {}{}", one_line(&error), how_to_go_on(&error)));
    code
}

/// The signal that an error tells of. candle hands on its text and not its type.
fn interrupted(error: &anyhow::Error) -> Option<Interrupted> {
    let signal = interrupt::check().err()?;
    error.chain().any(|cause| cause.to_string().contains(&signal.to_string())).then_some(signal)
}

/// The error and its causes, each once. candle puts a backtrace behind its messages where RUST_BACKTRACE is set: the first
/// line is the message.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = cause.lines().next().unwrap_or_default();
        if !line.contains(cause) {
            line = if line.is_empty() { cause.to_string() } else { format!("{line}: {cause}") };
        }
    }
    line
}

/// The folder of the run under way, once there is something to go on with.
static UNDER_WAY: OnceLock<PathBuf> = OnceLock::new();

/// From now on an error says how to go on with the run in the folder `root`, where that can help.
pub(crate) fn can_be_resumed(root: &Path) {
    UNDER_WAY.get_or_init(|| root.to_path_buf());
}

/// What stands behind an error that has nothing to do with the run's numbers.
fn how_to_go_on(error: &anyhow::Error) -> String {
    let outside = interrupted(error).is_some() || error.chain().any(|cause| cause.is::<io::Error>());
    match UNDER_WAY.get() {
        Some(root) if outside => {
            format!("; what is written is kept: --resume {} goes on", quoted(&root.to_string_lossy()))
        }
        _ => String::new(),
    }
}

/// The options to run with; none where the run to go on with is finished.
fn options<O: CommandLine>() -> Result<Option<O>> {
    let matches = arguments(O::command());
    let mut given = O::from_arg_matches(&matches)?;
    let Some(root) = given.run_options().resume.clone() else { return Ok(Some(given)) };
    refuse_beside_resume::<O>(&matches);
    let resumed = || format!("--resume {}", root.display());
    let record =
        RunRecord::read(&root).with_context(|| format!("{}: it is not a run's folder", resumed()))?;
    go_to_where_it_began(given.run_options(), &record).with_context(resumed)?;
    ensure!(
        record.experiment == O::EXPERIMENT,
        "{}: it is a run of {}, not of {}",
        resumed(),
        record.experiment,
        O::EXPERIMENT
    );
    if record.finished.is_some() {
        say_aside(&format!(
            "{} is finished already: --checkpoint {} samples its model anew",
            root.display(),
            root.join("model").display()
        ));
        return Ok(None);
    }
    let mut begun = O::try_parse_from(&record.command_line).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().to_string();
        anyhow!("{}: run.json has a command line that this version does not know: {first}", resumed())
    })?;
    let given = given.run_options().clone();
    let device = match matches.value_source("device") {
        Some(ValueSource::CommandLine) => given.device,
        _ => record.device.parse().map_err(anyhow::Error::msg).with_context(resumed)?,
    };
    let recorded = begun.run_options();
    *recorded = RunOptions {
        resume: given.resume,
        device,
        threads: given.threads,
        sampling_batch_size: given.sampling_batch_size,
        checkpoint_minutes: given.checkpoint_minutes,
        data_dir: given.data_dir.or(recorded.data_dir.take()),
        ..recorded.clone()
    };
    Ok(Some(begun))
}

/// Makes the folder where the run began that of the process, for the paths of its command line; those of this one still lead where they
/// led.
fn go_to_where_it_began(given: &mut RunOptions, record: &RunRecord) -> Result<()> {
    let (Some(root), Some(working)) = (&mut given.resume, &record.working_folder) else { return Ok(()) };
    *root = root.canonicalize()?;
    if let Some(dir) = &mut given.data_dir {
        *dir = std::path::absolute(&dir)?;
    }
    let began = root.join(working);
    if !began.is_dir() {
        return Ok(());
    }
    std::env::set_current_dir(&began).with_context(|| format!("cannot go to {}", began.display()))?;
    if let Ok(inside) = root.strip_prefix(began.canonicalize()?) {
        *root = inside.to_path_buf();
    }
    Ok(())
}

/// Ends the process where an option stands beside --resume that would make another run of it.
fn refuse_beside_resume<O: CommandLine>(matches: &ArgMatches) {
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let other = O::command()
        .get_arguments()
        .find(|arg| given(arg.get_id().as_str()) && !BESIDE_RESUME.contains(&arg.get_id().as_str()))
        .and_then(|arg| arg.get_long().map(str::to_string));
    if let Some(other) = other {
        let message =
            format!("--{other} cannot be given with --resume: the run goes on with its own options");
        O::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
}
