//! SIGINT and SIGTERM: a run finishes its step, keeps what it has, and says how to go on. A second signal ends it at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// The signal that has come, or 0.
static RECEIVED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// The run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} received", if *.signal == SIGTERM { "SIGTERM" } else { "SIGINT" })]
pub struct Interrupted {
    signal: i32,
}

impl Interrupted {
    /// What the process ends with, as a shell says it: 130 or 143.
    pub fn exit_code(self) -> u8 {
        128 + self.signal as u8
    }
}

/// From now on the signals end nothing by themselves: [`check`] tells of them.
///
/// # Errors
/// When the system refuses.
pub fn listen() -> io::Result<()> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // What is registered first is done first: only a second signal finds the flag set.
        flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
        flag::register(signal, again.clone())?;
        flag::register_usize(signal, RECEIVED.clone(), signal as usize)?;
    }
    Ok(())
}

/// An error once a signal has come.
///
/// # Errors
/// [`Interrupted`].
pub fn check() -> Result<(), Interrupted> {
    match RECEIVED.load(Ordering::Relaxed) as i32 {
        0 => Ok(()),
        signal => Err(Interrupted { signal }),
    }
}
