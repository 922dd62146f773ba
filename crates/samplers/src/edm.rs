//! Karras preconditioning: what a network is trained on, and the denoiser that it makes.

use crate::{Denoiser, column};
use candle_core::{Result, Tensor};
use elucidate_schedules::Scalings;

/// What the network is told of the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseInput {
    /// σ itself, as the lesson's notebook has it.
    Sigma,
    /// c_noise = ¼·ln σ (Karras 2022, table 1).
    QuarterLogSigma,
}

impl NoiseInput {
    fn of(self, sigma: &Tensor) -> Result<Tensor> {
        match self {
            Self::Sigma => Ok(sigma.clone()),
            Self::QuarterLogSigma => sigma.log()? * 0.25,
        }
    }
}

/// The scalings of each image, shaped to multiply images.
struct Scales {
    c_skip: Tensor,
    c_out: Tensor,
    c_in: Tensor,
}

impl Scales {
    /// For `sigma` (n), beside `x` (n, …).
    fn new(sigma: &Tensor, sigma_data: f64, x: &Tensor) -> Result<Self> {
        let sigmas = sigma.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
        let column = |part: fn(Scalings) -> f64| {
            column(sigmas.iter().map(|&sigma| part(Scalings::new(sigma, sigma_data))), x)
        };
        Ok(Self { c_skip: column(|s| s.c_skip)?, c_out: column(|s| s.c_out)?, c_in: column(|s| s.c_in)? })
    }
}

/// A batch as the network sees it in training.
#[derive(Debug, Clone)]
pub struct EdmBatch {
    /// The noised images y + σ·n, (n, …).
    pub noised: Tensor,
    /// The network's input c_in·(y + σ·n), of unit variance.
    pub input: Tensor,
    /// The network's time, (n).
    pub time: Tensor,
    /// What it should answer: (y − c_skip·(y + σ·n))/c_out, of unit variance.
    pub target: Tensor,
}

/// Noises clean images for training (Karras 2022, eq. 8). `y`, `noise`: (n, …); `sigma`: (n), above 0.
///
/// # Errors
/// When the shapes do not fit.
pub fn edm_batch(
    y: &Tensor,
    noise: &Tensor,
    sigma: &Tensor,
    sigma_data: f64,
    noise_input: NoiseInput,
) -> Result<EdmBatch> {
    let scales = Scales::new(sigma, sigma_data, y)?;
    let mut shape = vec![1; y.rank()];
    shape[0] = sigma.dim(0)?;
    let noised = (y + noise.broadcast_mul(&sigma.reshape(shape)?)?)?;
    let input = noised.broadcast_mul(&scales.c_in)?;
    let target = (y - noised.broadcast_mul(&scales.c_skip)?)?.broadcast_div(&scales.c_out)?;
    Ok(EdmBatch { noised, input, time: noise_input.of(sigma)?, target })
}

/// The denoiser that a network F with Karras preconditioning makes: D(x; σ) = c_skip·x + c_out·F(c_in·x; time)
/// (Karras 2022, eq. 7).
#[derive(Debug, Clone)]
pub struct EdmDenoiser<F> {
    /// The network: input (n, …) and time (n) to its answer (n, …).
    pub network: F,
    /// The data's standard deviation, in pixels of \[−1,1\].
    pub sigma_data: f64,
    /// What the network is told of σ.
    pub noise_input: NoiseInput,
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor>> Denoiser for EdmDenoiser<F> {
    fn denoise(&self, x: &Tensor, sigma: &Tensor) -> Result<Tensor> {
        let scales = Scales::new(sigma, self.sigma_data, x)?;
        let answer = (self.network)(&x.broadcast_mul(&scales.c_in)?, &self.noise_input.of(sigma)?)?;
        x.broadcast_mul(&scales.c_skip)? + answer.broadcast_mul(&scales.c_out)?
    }
}
