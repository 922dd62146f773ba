//! The `Denoiser` trait, the adapters that make one of any trained model, and one file a sampler.
//!
//! All samplers but the lesson's own [`ddim()`] work in the σ (variance-exploding) coordinates of Karras 2022:
//! x = y + σ·n. Along the probability-flow ODE dx/dσ = (x − D(x; σ))/σ (eq. 3 with σ(t) = t) samples go from pure noise at
//! σ_max to images at 0.

mod ddim;
mod edm;
mod eps;
mod euler;
mod euler_ancestral;
mod heun;
mod lms;
mod sampler;

pub use ddim::{Ddim, DdimStep, Estimates, Estimator, SigmaRule, ddim};
pub use edm::{EdmBatch, EdmDenoiser, NoiseInput, edm_batch};
pub use eps::{EpsDenoiser, vp_denoised, vp_noised};
pub use euler::euler;
pub use euler_ancestral::euler_ancestral;
pub use heun::{Churn, heun};
pub use lms::lms;
pub use sampler::Sampler;

use candle_core::{Result, Tensor, bail};

/// Predicts the clean images: D(x; σ). `x`: (n, …); `sigma`: (n), one noise level an image, x's dtype.
pub trait Denoiser {
    /// The clean images, of x's shape and dtype.
    ///
    /// # Errors
    /// When the model fails.
    fn denoise(&self, x: &Tensor, sigma: &Tensor) -> Result<Tensor>;
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor>> Denoiser for F {
    fn denoise(&self, x: &Tensor, sigma: &Tensor) -> Result<Tensor> {
        self(x, sigma)
    }
}

/// Where a sampler gets its standard normal noise from: a tensor of the shape and dtype of the one that it is given.
pub type Noise<'a> = &'a mut dyn FnMut(&Tensor) -> Result<Tensor>;

/// D(x; σ) with one σ for all images.
fn denoise(denoiser: &impl Denoiser, x: &Tensor, sigma: f64) -> Result<Tensor> {
    let sigmas = Tensor::full(sigma, x.dim(0)?, x.device())?.to_dtype(x.dtype())?;
    denoiser.denoise(x, &sigmas)
}

/// The slope dx/dσ = (x − D(x; σ))/σ of the probability-flow ODE (Karras 2022, eq. 3).
fn slope(denoiser: &impl Denoiser, x: &Tensor, sigma: f64) -> Result<Tensor> {
    (x - denoise(denoiser, x, sigma)?)? / sigma
}

/// One value an image, shaped to multiply images `x` (n, …), of x's dtype.
fn column(values: impl Iterator<Item = f64>, x: &Tensor) -> Result<Tensor> {
    let values: Vec<f64> = values.collect();
    let mut shape = vec![1; x.rank()];
    shape[0] = values.len();
    Tensor::from_vec(values, shape, x.device())?.to_dtype(x.dtype())
}

/// Refuses σ steps that do not go down from a positive σ to 0 or above.
fn check_sigmas(sigmas: &[f64]) -> Result<()> {
    let down = sigmas.windows(2).all(|pair| pair[0] > pair[1]);
    match (sigmas.len() >= 2 && down, sigmas.last()) {
        (true, Some(&last)) if last >= 0.0 && sigmas[0].is_finite() => Ok(()),
        _ => bail!("sigma steps must go down from a positive sigma to 0 or above, at least two of them"),
    }
}
