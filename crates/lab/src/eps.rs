//! Training a network to predict the noise ε along the cosine schedule, as 22_cosine and 22_no_t do.

use crate::images::{Images, numbers};
use crate::run::Run;
use crate::training::mean_over_images;
use candle_core::{Result, Tensor};
use elucidate_core::data::{PixelRange, Split};
use elucidate_core::train::Shard;
use elucidate_core::unet::UNet2DModel;
use elucidate_samplers::{vp_denoised, vp_noised};
use elucidate_schedules::cosine::{LAST_TIME, alpha_bar};
use rand::RngExt;

/// What the network is told of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeInput {
    /// t, from 0 to 1.
    Given,
    /// Always 0.
    Hidden,
}

/// The data that ε-prediction trains on and how it is noised.
#[derive(Debug, Clone)]
pub struct EpsData {
    /// What the network is told of the time.
    pub time: TimeInput,
    images: Images,
}

/// Noised images.
#[derive(Debug, Clone)]
pub struct EpsBatch {
    /// The images x₀, pixels x − ½: (n, 1, 32, 32).
    pub clean: Tensor,
    /// The noise ε.
    pub noise: Tensor,
    /// Each image's time, in \[0, [`LAST_TIME`]\].
    pub times: Vec<f64>,
    /// x_t = √ᾱ·x₀ + √(1−ᾱ)·ε.
    pub noised: Tensor,
}

impl EpsBatch {
    /// The clean images that an answer ε̂ of the network means: x̂₀ = (x_t − √(1−ᾱ)·ε̂)/√ᾱ.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn denoised(&self, answer: &Tensor) -> Result<Tensor> {
        let alpha_bars: Vec<f64> = self.times.iter().map(|&t| alpha_bar(t)).collect();
        vp_denoised(&self.noised, answer, &alpha_bars)
    }
}

impl EpsData {
    /// That of a run.
    pub fn new(run: &Run, time: TimeInput) -> Self {
        Self { time, images: Images::of(run, PixelRange::CENTRED) }
    }

    /// Images `indices` of `split`, noised with numbers `positions` of the streams `"{name} noise"` and `"{name} time"`,
    /// t uniform in \[0, [`LAST_TIME`]\].
    ///
    /// # Errors
    /// When an index is too large, or the device fails.
    pub fn noised(
        &self,
        split: &Split,
        indices: &[usize],
        positions: &[u64],
        name: &str,
    ) -> Result<EpsBatch> {
        let (clean, noise) = self.images.with_noise(split, indices, positions, name)?;
        let stream = format!("{name} time");
        let time = |&k: &u64| self.images.streams.stream(&stream, k).random_range(0.0..=LAST_TIME);
        let times: Vec<f64> = positions.iter().map(time).collect();
        let alpha_bars: Vec<f64> = times.iter().map(|&t| alpha_bar(t)).collect();
        let noised = vp_noised(&clean, &noise, &alpha_bars)?;
        Ok(EpsBatch { clean, noise, times, noised })
    }

    /// What the network answers to a batch: ε̂.
    ///
    /// # Errors
    /// When the network fails.
    pub fn answer(&self, model: &UNet2DModel, batch: &EpsBatch) -> Result<Tensor> {
        let times = Tensor::from_iter(batch.times.iter().map(|&t| t as f32), &self.images.device)?;
        self.forward(model, &batch.noised, &times)
    }

    /// ε̂ for x_t (n, 1, 32, 32) and t (n), which the network is told or not.
    ///
    /// # Errors
    /// When the network fails.
    pub fn forward(&self, model: &UNet2DModel, x: &Tensor, t: &Tensor) -> Result<Tensor> {
        match self.time {
            TimeInput::Given => model.forward(x, t),
            TimeInput::Hidden => model.forward(x, &t.zeros_like()?),
        }
    }

    /// Mean squared error of the network on a shard of the training images.
    ///
    /// # Errors
    /// When the network fails.
    pub fn training_loss(&self, model: &UNet2DModel, shard: &Shard) -> Result<Tensor> {
        let positions: Vec<u64> = shard.positions.clone().collect();
        self.loss(model, &self.noised(&self.images.data.train, shard.indices, &positions, "training")?)
    }

    /// Mean squared error over the test images, each with one noise and one t, the same in every epoch.
    ///
    /// # Errors
    /// When the network fails.
    pub fn test_loss(&self, model: &UNet2DModel) -> Result<f64> {
        mean_over_images(self.images.test_images, &self.images.device, |indices| {
            self.loss(model, &self.noised(&self.images.data.test, indices, &numbers(indices), "test")?)
        })
    }

    fn loss(&self, model: &UNet2DModel, batch: &EpsBatch) -> Result<Tensor> {
        (self.answer(model, batch)? - &batch.noise)?.sqr()?.mean_all()
    }
}
