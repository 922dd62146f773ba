//! Denoisers, and the one that a network makes.

use candle_core::{DType, Result, Tensor};
use elucidate_schedules::{Coefficients, Preconditioning};

/// Predicts the clean images: D(x; σ).
pub trait Denoiser {
    /// The clean images, of `x`'s shape and dtype. `x`: (n, …), pixels of \[−1,1\] plus noise; `sigma`: one noise level an
    /// image, n of them, above 0.
    ///
    /// # Errors
    /// When the model fails.
    fn denoise(&self, x: &Tensor, sigma: &[f64]) -> Result<Tensor>;
}

impl<F: Fn(&Tensor, &[f64]) -> Result<Tensor>> Denoiser for F {
    fn denoise(&self, x: &Tensor, sigma: &[f64]) -> Result<Tensor> {
        self(x, sigma)
    }
}

/// The denoiser that a trained network F makes: D(x; σ) = μ + c_skip·(x−μ) + c_out·F(c_in·(x−μ); c_noise) (Karras 2022, eq. 7).
#[derive(Debug, Clone)]
pub struct Preconditioned<F> {
    /// The network: input (n, …) and time (n) to its answer (n, …).
    pub network: F,
    /// What its input, time and answer mean.
    pub preconditioning: Preconditioning,
    /// What the network computes in; x and the answer stay in x's dtype.
    pub dtype: DType,
}

impl<F> Preconditioned<F> {
    /// Of a network that computes in f32.
    pub fn new(network: F, preconditioning: Preconditioning) -> Self {
        Self { network, preconditioning, dtype: DType::F32 }
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor>> Denoiser for Preconditioned<F> {
    fn denoise(&self, x: &Tensor, sigma: &[f64]) -> Result<Tensor> {
        let scales = Scales::new(&self.preconditioning, sigma);
        // Nothing of what a network with trainable weights computes is kept for a gradient.
        let x = scales.centred(&x.detach())?;
        let input = x.broadcast_mul(&scales.column(|c| c.c_in, &x)?)?.to_dtype(self.dtype)?;
        let time = scales.time(&x)?.to_dtype(self.dtype)?;
        let answer = (self.network)(&input, &time)?.detach().to_dtype(x.dtype())?;
        let skip = x.broadcast_mul(&scales.column(|c| c.c_skip, &x)?)?;
        scales.uncentred(&(skip + answer.broadcast_mul(&scales.column(|c| c.c_out, &x)?)?)?)
    }
}

/// A batch as the network sees it in training.
#[derive(Debug, Clone)]
pub struct TrainingBatch {
    /// The noised images y + σ·n, (n, …).
    pub noised: Tensor,
    /// The network's input c_in·(y − μ + σ·n).
    pub input: Tensor,
    /// The network's time c_noise, (n).
    pub time: Tensor,
    /// What it should answer.
    pub target: Tensor,
}

impl TrainingBatch {
    /// Noises clean images for training (Karras 2022, eq. 8). `y`, `noise`: (n, …), pixels of \[−1,1\] and standard normal
    /// numbers; `sigma`: n noise levels.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn new(preconditioning: &Preconditioning, y: &Tensor, noise: &Tensor, sigma: &[f64]) -> Result<Self> {
        let scales = Scales::new(preconditioning, sigma);
        let noised = (y + noise.broadcast_mul(&column(sigma.iter().copied(), y)?)?)?;
        let input = scales.centred(&noised)?.broadcast_mul(&scales.column(|c| c.c_in, y)?)?;
        let image = scales.centred(y)?.broadcast_mul(&scales.column(|c| c.target_image, y)?)?;
        let target = (image + noise.broadcast_mul(&scales.column(|c| c.target_noise, y)?)?)?;
        Ok(Self { input, time: scales.time(y)?, target, noised })
    }
}

/// The coefficients of each image.
struct Scales(Vec<Coefficients>);

impl Scales {
    fn new(preconditioning: &Preconditioning, sigma: &[f64]) -> Self {
        Self(sigma.iter().map(|&sigma| preconditioning.at(sigma)).collect())
    }

    /// A coefficient of each image, shaped to multiply images `x`.
    fn column(&self, part: impl Fn(&Coefficients) -> f64, x: &Tensor) -> Result<Tensor> {
        column(self.0.iter().map(part), x)
    }

    fn time(&self, x: &Tensor) -> Result<Tensor> {
        self.column(|c| c.c_noise, x)?.flatten_all()
    }

    fn mean(&self) -> f64 {
        self.0.first().map_or(0.0, |c| c.mean)
    }

    fn centred(&self, x: &Tensor) -> Result<Tensor> {
        if self.mean() == 0.0 { Ok(x.clone()) } else { x - self.mean() }
    }

    fn uncentred(&self, x: &Tensor) -> Result<Tensor> {
        if self.mean() == 0.0 { Ok(x.clone()) } else { x + self.mean() }
    }
}

/// One value an image, shaped to multiply images `x` (n, …), of x's dtype.
fn column(values: impl Iterator<Item = f64>, x: &Tensor) -> Result<Tensor> {
    let values: Vec<f64> = values.collect();
    let mut shape = vec![1; x.rank()];
    shape[0] = values.len();
    Tensor::from_vec(values, shape, x.device())?.to_dtype(x.dtype())
}
