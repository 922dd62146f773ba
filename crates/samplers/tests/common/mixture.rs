//! Data whose denoiser has a closed form.

use candle_core::{Result, Tensor};
use elucidate_samplers::Denoiser;

/// Data from the mixture ½·N(−mean, std²) + ½·N(mean, std²), each element by itself.
#[derive(Debug, Clone, Copy)]
pub struct Mixture {
    /// Mean of the one half, −mean that of the other.
    pub mean: f64,
    /// Standard deviation of each half, above 0.
    pub std: f64,
}

impl Denoiser for Mixture {
    /// E\[y | y + σn = x\] = (std²·x + σ²·mean·tanh(mean·x/s²))/s², where s² = std² + σ²: each half's mean shrinks
    /// towards x, and the tanh is the weight of the one half less that of the other.
    fn denoise(&self, x: &Tensor, sigma: &[f64]) -> Result<Tensor> {
        let mut column = vec![1; x.rank()];
        column[0] = sigma.len();
        let noise = Tensor::new(sigma, x.device())?.sqr()?.reshape(column)?.to_dtype(x.dtype())?;
        let total = (&noise + self.std.powi(2))?;
        let weight = (x * self.mean)?.broadcast_div(&total)?.tanh()?;
        let shift = weight.broadcast_mul(&(noise * self.mean)?)?;
        ((x * self.std.powi(2))? + shift)?.broadcast_div(&total)
    }
}
