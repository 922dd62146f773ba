//! Euler's method with fresh noise.

use crate::{Denoiser, Noise, check_sigmas, slope};
use candle_core::{Result, Tensor, bail};

/// Ancestral sampling: each step goes down past σ′ to σ_down by Euler's method and comes back up with fresh noise of
/// σ_up, so that σ_down² + σ_up² = σ′²; `eta` from 0 (Euler's method) to 1 (Ho 2020's posterior variance) scales σ_up
/// (Song 2020, eq. 16, in σ coordinates). One evaluation a step.
///
/// # Errors
/// When `eta` is not in \[0,1\], the σ steps do not go down, or the model or the noise fails.
pub fn euler_ancestral(
    denoiser: &impl Denoiser,
    x: &Tensor,
    sigmas: &[f64],
    eta: f64,
    noise: Noise,
) -> Result<Tensor> {
    check_sigmas(sigmas)?;
    if !(0.0..=1.0).contains(&eta) {
        bail!("eta {eta} is impossible: give 0 to 1");
    }
    let mut x = x.clone();
    for step in sigmas.windows(2) {
        let (sigma, next) = (step[0], step[1]);
        let (sigma_down, sigma_up) = ancestral_step(sigma, next, eta);
        let d = slope(denoiser, &x, sigma)?;
        x = (x + (d * (sigma_down - sigma))?)?;
        if sigma_up > 0.0 {
            x = (&x + (noise(&x)? * sigma_up)?)?;
        }
    }
    Ok(x)
}

/// (σ_down, σ_up) of a step from `sigma` to `next`.
fn ancestral_step(sigma: f64, next: f64, eta: f64) -> (f64, f64) {
    let sigma_up = next.min(eta * (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).sqrt());
    ((next.powi(2) - sigma_up.powi(2)).sqrt(), sigma_up)
}
