//! What the experiments share, in three rooms: the run (options, folder, log, resuming), training (the objective, the recipe,
//! models), and evaluation (settings, drawing, scoring, the table).

// For the macro `git_revision!`.
#[doc(hidden)]
pub use git_version;

pub mod evaluate;
pub mod run;
pub mod train;
