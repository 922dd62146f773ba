//! A sampler step by step.

use candle_core::{Result, Tensor};
use elucidate_samplers::{Churn, Denoiser, Sampler};

/// The k-th noise that a sampler asks for, of the shape and dtype of the tensor.
pub type NumberedNoise<'a> = &'a dyn Fn(usize, &Tensor) -> Result<Tensor>;

/// `x` and what it is after each of `sigmas`' steps, and how many noises the sampler asked for.
///
/// A sampler tells only the end, so it runs over the first σ step, over the first two and so on, each time with the same
/// noise: steps²/2 steps in all. Heun's churn is spread over all steps, so fewer steps take their part of it.
///
/// # Errors
/// Those of the sampler.
pub fn step_by_step(
    sampler: Sampler,
    denoiser: &impl Denoiser,
    x: &Tensor,
    sigmas: &[f64],
    noise: NumberedNoise,
) -> Result<(Vec<Tensor>, usize)> {
    let steps = sigmas.len() - 1;
    let mut states = vec![x.clone()];
    let mut asked = 0;
    for taken in 1..=steps {
        asked = 0;
        let mut next_noise = |like: &Tensor| {
            asked += 1;
            noise(asked - 1, like)
        };
        let sampler = with_part_of_churn(sampler, taken as f64 / steps as f64);
        states.push(sampler.sample(denoiser, x, &sigmas[..=taken], &mut next_noise)?);
    }
    Ok((states, asked))
}

fn with_part_of_churn(sampler: Sampler, part: f64) -> Sampler {
    match sampler {
        Sampler::Heun { churn } => Sampler::Heun { churn: Churn { s_churn: churn.s_churn * part, ..churn } },
        other => other,
    }
}
