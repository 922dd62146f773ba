#![doc = include_str!("../README.md")]
//!
//! σ is the noise level: the standard deviation of the noise added to pixels in \[−1,1\].

mod noise_schedule;
mod options;
mod preconditioning;
mod sigma_steps;
mod training_noise;

pub use noise_schedule::{
    LAST_TIME, NoiseSchedule, ScheduleError, alpha_bar_of_sigma, logit, sigma_of_alpha_bar, sigmoid,
};
pub use options::{Domain, OptionInfo};
pub use preconditioning::{Coefficients, NoiseInput, Preconditioning, Prediction};
pub use sigma_steps::{
    DdimSteps, ExponentialSteps, IddpmSteps, KarrasSteps, LinearSteps, ListedSteps, PolyexponentialSteps,
    SigmaSteps, Spacing, SpacingInfo, TimeSteps, UnevenSteps,
};
pub use training_noise::{LossWeight, TrainingNoise, stratified};
