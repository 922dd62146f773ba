//! The residual classifier.
