//! A sampling under way: what every sampler asks of it.

use crate::{Denoiser, NoiseSource};
use candle_core::{Result, Tensor};

/// A step of a sampler, as its callback sees it.
#[derive(Debug)]
pub struct Step<'a> {
    /// Which, from 0.
    pub index: usize,
    /// The noise level at which the step begins.
    pub sigma: f64,
    /// x, where the step begins.
    pub x: &'a Tensor,
    /// D(x; σ), or at the raised σ̂ where churn raised it.
    pub denoised: &'a Tensor,
}

/// What a callback is: told of each step, it may end the sampling.
pub type Callback<'a> = &'a mut dyn FnMut(&Step) -> Result<()>;

/// A sampling under way: the denoiser, whose evaluations are counted, the noise, and the callback.
pub struct Sampling<'a> {
    denoiser: &'a dyn Denoiser,
    noise: &'a mut dyn NoiseSource,
    callback: Callback<'a>,
    steps: usize,
    evaluations: usize,
}

impl<'a> Sampling<'a> {
    pub(crate) fn new(
        denoiser: &'a dyn Denoiser,
        noise: &'a mut dyn NoiseSource,
        callback: Callback<'a>,
    ) -> Self {
        Self { denoiser, noise, callback, steps: 0, evaluations: 0 }
    }

    pub(crate) fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// D(x; σ) with one σ for all images.
    pub(crate) fn denoise(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.evaluations += 1;
        Ok(self.denoiser.denoise(&x.detach(), &vec![sigma; x.dim(0)?])?.detach())
    }

    /// D(x; σ) where a step begins, of which the callback is told.
    pub(crate) fn begin_step(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let denoised = self.denoise(x, sigma)?;
        (self.callback)(&Step { index: self.steps, sigma, x, denoised: &denoised })?;
        self.steps += 1;
        Ok(denoised)
    }

    /// x + `std`·z with fresh noise z of the step from `sigma` to `next`; none is drawn where `std` is 0.
    pub(crate) fn add_noise(&mut self, x: Tensor, std: f64, sigma: f64, next: f64) -> Result<Tensor> {
        if std == 0.0 {
            return Ok(x);
        }
        let noise = self.noise.noise(&x, sigma, next)?;
        x + (noise * std)?
    }
}

/// Each step's σ and the next σ′.
pub(crate) fn steps(sigmas: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    sigmas.windows(2).map(|pair| (pair[0], pair[1]))
}

/// The slope dx/dσ = (x − D(x; σ))/σ of the probability-flow ODE (Karras 2022, eq. 3).
pub(crate) fn slope(x: &Tensor, denoised: &Tensor, sigma: f64) -> Result<Tensor> {
    (x - denoised)? / sigma
}

/// a·x + b·y.
pub(crate) fn combine(a: f64, x: &Tensor, b: f64, y: &Tensor) -> Result<Tensor> {
    (x * a)? + (y * b)?
}

/// Euler's step along `d` from `sigma` to `next`.
pub(crate) fn euler_step(x: &Tensor, d: &Tensor, sigma: f64, next: f64) -> Result<Tensor> {
    x + (d * (next - sigma))?
}

/// (σ_down, σ_up) of an ancestral step from `sigma` to `next`: down by the ODE, up by fresh noise, σ_down² + σ_up² = σ′²; η from
/// 0 (no noise) to 1 (Ho 2020's posterior variance) scales σ_up (Song 2020, eq. 16, in σ coordinates).
pub(crate) fn ancestral_step(sigma: f64, next: f64, eta: f64) -> (f64, f64) {
    let sigma_up = next.min(eta * (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).sqrt());
    ((next.powi(2) - sigma_up.powi(2)).sqrt(), sigma_up)
}

/// Churn (Karras 2022, algorithm 2): γ and σ̂ = (1 + γ)·σ of a step, one of `steps`.
pub(crate) struct Churn {
    /// Over all steps: γ = min(S_churn/N, √2 − 1).
    pub s_churn: f64,
    /// The smallest σ at which noise is added.
    pub s_tmin: f64,
    /// The largest.
    pub s_tmax: f64,
    /// Standard deviation of the added noise.
    pub s_noise: f64,
}

impl Churn {
    /// x̂ = x + √(σ̂² − σ²)·S_noise·ε and σ̂.
    pub(crate) fn raise(
        &self,
        sampling: &mut Sampling,
        x: Tensor,
        sigma: f64,
        steps: usize,
    ) -> Result<(Tensor, f64)> {
        let gamma = match (self.s_tmin..=self.s_tmax).contains(&sigma) {
            true => (self.s_churn / steps as f64).min(2f64.sqrt() - 1.0),
            false => 0.0,
        };
        let sigma_hat = sigma * (1.0 + gamma);
        let std = self.s_noise * (sigma_hat.powi(2) - sigma.powi(2)).sqrt();
        Ok((sampling.add_noise(x, std, sigma_hat, sigma)?, sigma_hat))
    }
}
