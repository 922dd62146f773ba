//! The experiment's noising, its losses and its denoiser.

use crate::options::EdmOptions;
use candle_core::{Device, Result, Tensor};
use elucidate_core::data::{PixelRange, Split};
use elucidate_core::train::Shard;
use elucidate_core::unet::UNet2DModel;
use elucidate_lab::images::{Images, numbers};
use elucidate_lab::run::Run;
use elucidate_lab::training::mean_over_images;
use elucidate_samplers::{EdmBatch, EdmDenoiser, NoiseInput, edm_batch};
use elucidate_schedules::LogNormal;
use rand_distr::{Distribution, StandardNormal};

/// The notebook's pixels: 2x − 1.
pub const PIXELS: PixelRange = PixelRange::SIGNED;

/// What the preconditioning needs to know, and the data that it noises.
pub struct Edm {
    pub sigma_data: f64,
    pub noise_input: NoiseInput,
    pub training: LogNormal,
    images: Images,
}

impl Edm {
    pub fn new(options: &EdmOptions, run: &Run) -> Self {
        Self {
            sigma_data: options.sigma_data,
            noise_input: options.noise_input.into(),
            training: LogNormal::default(),
            images: Images::of(run, PIXELS),
        }
    }

    pub fn device(&self) -> &Device {
        &self.images.device
    }

    /// Training σ number `k` of a stream.
    pub fn sigma(&self, stream: &str, k: u64) -> f64 {
        self.training.sigma(StandardNormal.sample(&mut self.images.streams.stream(stream, k)))
    }

    /// Images `indices` of `split`, noised with numbers `positions` of the streams `"{name} noise"` and, unless `sigma`
    /// fixes it, `"{name} sigma"`. Returns the clean images, the noise levels and the batch.
    pub fn noised(
        &self,
        split: &Split,
        indices: &[usize],
        positions: &[u64],
        name: &str,
        sigma: Option<f64>,
    ) -> Result<(Tensor, Vec<f64>, EdmBatch)> {
        let (clean, noise) = self.images.with_noise(split, indices, positions, name)?;
        let stream = format!("{name} sigma");
        let sigmas: Vec<f64> =
            positions.iter().map(|&k| sigma.unwrap_or_else(|| self.sigma(&stream, k))).collect();
        let tensor = Tensor::from_iter(sigmas.iter().map(|&s| s as f32), &self.images.device)?;
        let batch = edm_batch(&clean, &noise, &tensor, self.sigma_data, self.noise_input)?;
        Ok((clean, sigmas, batch))
    }

    /// Mean squared error of the network on a shard of the training images.
    pub fn training_loss(&self, model: &UNet2DModel, shard: &Shard) -> Result<Tensor> {
        let positions: Vec<u64> = shard.positions.clone().collect();
        let (_, _, batch) =
            self.noised(&self.images.data.train, shard.indices, &positions, "training", None)?;
        loss(model, &batch)
    }

    /// Mean squared error over the test images, each with one noise and one σ, the same in every epoch.
    pub fn test_loss(&self, model: &UNet2DModel) -> Result<f64> {
        self.mean_loss(model, self.images.test_images, None)
    }

    /// Mean squared error over the first `n` test images, at one σ where it is given.
    pub fn mean_loss(&self, model: &UNet2DModel, n: usize, sigma: Option<f64>) -> Result<f64> {
        mean_over_images(n, &self.images.device, |indices| {
            let (_, _, batch) =
                self.noised(&self.images.data.test, indices, &numbers(indices), "test", sigma)?;
            loss(model, &batch)
        })
    }

    /// The denoiser that the trained network makes.
    pub fn denoiser<'a>(
        &self,
        model: &'a UNet2DModel,
    ) -> EdmDenoiser<impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Sync + 'a> {
        let network = |x: &Tensor, time: &Tensor| model.forward(x, time);
        EdmDenoiser { network, sigma_data: self.sigma_data, noise_input: self.noise_input }
    }
}

fn loss(model: &UNet2DModel, batch: &EdmBatch) -> Result<Tensor> {
    (model.forward(&batch.input, &batch.time)? - &batch.target)?.sqr()?.mean_all()
}
