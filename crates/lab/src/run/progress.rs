//! Progress bars on a terminal, and log lines that do not run into them.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Whether the terminal is one that cannot move its cursor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether log lines may have colours: on a terminal that has them, where NO_COLOR (no-color.org) is not set.
pub(crate) fn colours() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !no_colour && !is_dumb()
}

/// A bar of `length` steps with `label` before it; nothing is drawn where stderr is not a terminal, or a dumb one.
pub fn bar(label: &str, length: u64) -> ProgressBar {
    if is_dumb() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:16} {bar:30} {pos}/{len} {msg} {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    BARS.add(ProgressBar::new(length)).with_style(style).with_prefix(label.to_string())
}

/// Stderr for log lines: the bars step aside while a line is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
