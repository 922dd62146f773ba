//! What the experiments share: options and presets, the run folder, the sample–score–record loop.

pub mod ddim;
pub mod eps;
pub mod figures;
pub mod images;
pub mod interrupt;
pub mod model;
pub mod noise_level;
pub mod one_setting;
pub mod options;
pub mod pictures;
pub mod program;
pub mod progress;
pub mod run;
pub mod sampling;
pub mod score;
pub mod training;
mod yardsticks;
