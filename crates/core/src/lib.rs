//! Device, data, random streams, models, optimiser, trainer and checkpoints.

pub mod checkpoint;
pub mod data;
pub mod device;
pub mod files;
pub mod history;
pub mod nn;
pub mod optim;
pub mod params;
pub mod residual;
pub mod rng;
pub mod train;
pub mod unet;
