//! Adam and one-cycle.
