//! A sampler step by step.

use candle_core::{Result, Tensor};
use elucidate_samplers::{Denoiser, Sampler};

/// The k-th noise that a sampler asks for, of the shape and dtype of the tensor.
pub type NumberedNoise<'a> = &'a dyn Fn(usize, &Tensor) -> Result<Tensor>;

/// x where each step begins and at the end, and how many noises the sampler asked for.
///
/// # Errors
/// Those of the sampler.
pub fn step_by_step(
    sampler: &Sampler,
    denoiser: &dyn Denoiser,
    x: &Tensor,
    sigmas: &[f64],
    noise: NumberedNoise,
) -> Result<(Vec<Tensor>, usize)> {
    let mut states = vec![];
    let mut asked = 0;
    let mut next_noise = |like: &Tensor, _: f64, _: f64| {
        asked += 1;
        noise(asked - 1, like)
    };
    let sampled = sampler.sample(denoiser, x, sigmas, &mut next_noise, &mut |step| {
        states.push(step.x.clone());
        Ok(())
    })?;
    states.push(sampled.images);
    Ok((states, asked))
}
