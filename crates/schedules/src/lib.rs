//! Noise schedules as pure f64 mathematics: no tensors, no I/O.
