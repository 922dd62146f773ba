//! Heun's method with churn.

use crate::{Denoiser, Noise, check_sigmas, slope};
use candle_core::{Result, Tensor, bail};

/// How much noise is added back before each step (Karras 2022, Algorithm 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// Over all steps: γ = min(S_churn/N, √2 − 1). 0 for none.
    pub s_churn: f64,
    /// The smallest σ at which noise is added.
    pub s_tmin: f64,
    /// The largest σ at which noise is added.
    pub s_tmax: f64,
    /// Standard deviation of the added noise.
    pub s_noise: f64,
}

impl Default for Churn {
    /// No churn; where S_churn is set, at every σ, with noise of standard deviation 1.
    fn default() -> Self {
        Self { s_churn: 0.0, s_tmin: 0.0, s_tmax: f64::INFINITY, s_noise: 1.0 }
    }
}

impl Churn {
    /// γ for one of `steps` steps, at `sigma`.
    fn gamma(&self, sigma: f64, steps: usize) -> f64 {
        match (self.s_tmin..=self.s_tmax).contains(&sigma) {
            true => (self.s_churn / steps as f64).min(2f64.sqrt() - 1.0),
            false => 0.0,
        }
    }
}

/// Heun's method on the probability-flow ODE, order 2, with churn (Karras 2022, Algorithm 2; without churn,
/// Algorithm 1). Two evaluations a step, but one in a step to σ = 0.
///
/// # Errors
/// When a churn is negative, the σ steps do not go down, or the model or the noise fails.
pub fn heun(
    denoiser: &impl Denoiser,
    x: &Tensor,
    sigmas: &[f64],
    churn: Churn,
    noise: Noise,
) -> Result<Tensor> {
    check_sigmas(sigmas)?;
    if !(churn.s_churn >= 0.0 && churn.s_noise >= 0.0) {
        bail!("s_churn {} and s_noise {} must be 0 or more", churn.s_churn, churn.s_noise);
    }
    let steps = sigmas.len() - 1;
    let mut x = x.clone();
    for step in sigmas.windows(2) {
        let (sigma, next) = (step[0], step[1]);
        // σ̂ = σ + γσ; x̂ = x + √(σ̂² − σ²)·S_noise·ε
        let gamma = churn.gamma(sigma, steps);
        let sigma_hat = sigma * (1.0 + gamma);
        if gamma > 0.0 {
            let added = churn.s_noise * (sigma_hat.powi(2) - sigma.powi(2)).sqrt();
            x = (&x + (noise(&x)? * added)?)?;
        }
        // From here on everything is at σ̂: the slope is taken there and the step begins there.
        let d = slope(denoiser, &x, sigma_hat)?;
        let euler = (&x + (&d * (next - sigma_hat))?)?;
        x = match next {
            0.0 => euler,
            _ => {
                let d_next = slope(denoiser, &euler, next)?;
                (x + ((d + d_next)? * ((next - sigma_hat) / 2.0))?)?
            }
        };
    }
    Ok(x)
}
