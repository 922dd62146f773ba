//! Checkpoints and model folders.
