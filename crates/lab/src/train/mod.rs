//! Training: what a network is trained on, how, and the models that come of it.

pub mod images;
pub mod model;
pub mod noise_level;
pub mod objective;
pub mod recipe;
pub mod uncertainty;
