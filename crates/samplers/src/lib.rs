//! The `Denoiser` trait, the adapters that make one of any trained model, and one file a sampler.
