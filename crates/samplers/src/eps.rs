//! ε-prediction: the denoiser that a network makes which was trained to predict the noise.

use crate::{Denoiser, column};
use candle_core::{DType, Result, Tensor};
use elucidate_schedules::cosine::{alpha_bar_of_sigma, time_of};

/// The denoiser that an ε-predicting network on the cosine schedule makes, without retraining (Karras 2022, table 1):
/// σ names the ᾱ = 1/(1+σ²) at which the network saw as much noise, x is scaled to have variance as it had there, and
/// D(x; σ) = x − σ·ε̂.
#[derive(Debug, Clone)]
pub struct EpsDenoiser<F> {
    /// The network: x_t = √ᾱ·x₀ + √(1−ᾱ)·ε (n, …) and the time t of ᾱ (n) to ε̂ (n, …).
    pub network: F,
    /// The largest pixel where the network was trained: 0.5 for pixels x − 0.5. Here pixels reach from −1 to 1.
    pub largest_pixel: f64,
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor>> Denoiser for EpsDenoiser<F> {
    fn denoise(&self, x: &Tensor, sigma: &Tensor) -> Result<Tensor> {
        let sigmas = sigma.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let alpha_bars: Vec<f64> =
            sigmas.iter().map(|s| alpha_bar_of_sigma(s * self.largest_pixel)).collect();
        let scale = alpha_bars.iter().map(|a| a.sqrt() * self.largest_pixel);
        let time = column(alpha_bars.iter().map(|&a| time_of(a)), x)?.flatten_all()?;
        let noise = (self.network)(&x.broadcast_mul(&column(scale, x)?)?, &time)?;
        x - noise.broadcast_mul(&column(sigmas.into_iter(), x)?)?
    }
}

/// Noises clean images: x_t = √ᾱ·x₀ + √(1−ᾱ)·ε. `x0`, `noise`: (n, …); `alpha_bars`: one for each image, in \[0,1\].
///
/// # Errors
/// When the shapes do not fit.
pub fn vp_noised(x0: &Tensor, noise: &Tensor, alpha_bars: &[f64]) -> Result<Tensor> {
    let signal = column(alpha_bars.iter().map(|a| a.sqrt()), x0)?;
    let rest = column(alpha_bars.iter().map(|a| (1.0 - a).sqrt()), x0)?;
    x0.broadcast_mul(&signal)? + noise.broadcast_mul(&rest)?
}

/// The clean images that x_t and the noise in it mean, the inverse of [`vp_noised`]: x̂₀ = (x_t − √(1−ᾱ)·ε̂)/√ᾱ. `x`,
/// `noise`: (n, …); `alpha_bars`: one for each image, in (0,1\].
///
/// # Errors
/// When the shapes do not fit.
pub fn vp_denoised(x: &Tensor, noise: &Tensor, alpha_bars: &[f64]) -> Result<Tensor> {
    let signal = column(alpha_bars.iter().map(|a| a.sqrt()), x)?;
    let rest = column(alpha_bars.iter().map(|a| (1.0 - a).sqrt()), x)?;
    (x - noise.broadcast_mul(&rest)?)?.broadcast_div(&signal)
}
