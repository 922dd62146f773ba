//! What the experiments share: options and presets, the run folder, the sample–score–record loop.

pub mod model;
pub mod options;
pub mod pictures;
pub mod progress;
pub mod run;
pub mod sampling;
pub mod score;
pub mod training;
