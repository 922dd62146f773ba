//! Noise schedules as pure f64 mathematics: no tensors, no I/O.
//!
//! σ is the noise level: the standard deviation of the noise added to pixels in \[−1,1\].

pub mod cosine;
mod edm;

pub use edm::{LogNormal, Scalings, ScheduleError, karras_sigmas};
