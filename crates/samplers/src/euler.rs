//! Euler's method.

use crate::{Denoiser, check_sigmas, slope};
use candle_core::{Result, Tensor};

/// Euler's method on the probability-flow ODE, order 1 (Karras 2022, Algorithm 1 without its correction). `x`: any
/// shape, noise at scale `sigmas[0]`; `sigmas`: going down. One evaluation a step.
///
/// # Errors
/// When the σ steps do not go down or the model fails.
pub fn euler(denoiser: &impl Denoiser, x: &Tensor, sigmas: &[f64]) -> Result<Tensor> {
    check_sigmas(sigmas)?;
    let mut x = x.clone();
    for step in sigmas.windows(2) {
        let (sigma, next) = (step[0], step[1]);
        let d = slope(denoiser, &x, sigma)?;
        x = (x + (d * (next - sigma))?)?;
    }
    Ok(x)
}
