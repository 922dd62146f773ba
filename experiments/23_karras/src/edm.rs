//! The experiment's noising, its losses and its denoiser.

use crate::options::EdmOptions;
use candle_core::{Device, Result, Tensor};
use elucidate_core::data::{FashionMnist, PixelRange, Split};
use elucidate_core::params::Params;
use elucidate_core::rng::Streams;
use elucidate_core::train::Shard;
use elucidate_core::unet::{UNet2DConfig, UNet2DModel, notebook_init};
use elucidate_lab::run::Run;
use elucidate_lab::training::mean_over_images;
use elucidate_samplers::{EdmBatch, EdmDenoiser, NoiseInput, edm_batch};
use elucidate_schedules::LogNormal;
use rand_distr::{Distribution, StandardNormal};

/// The notebook's pixels: 2x − 1.
pub const PIXELS: PixelRange = PixelRange::SIGNED;
/// Shape of an image.
pub const IMAGE: [usize; 3] = [1, 32, 32];

/// What the preconditioning needs to know, and the data that it noises.
pub struct Edm {
    pub sigma_data: f64,
    pub noise_input: NoiseInput,
    pub training: LogNormal,
    streams: Streams,
    device: Device,
    data: FashionMnist,
    test_images: usize,
}

impl Edm {
    pub fn new(options: &EdmOptions, run: &Run) -> Self {
        Self {
            sigma_data: options.sigma_data,
            noise_input: options.noise_input.into(),
            training: LogNormal::default(),
            streams: run.streams,
            device: run.device.clone(),
            data: run.data.clone(),
            test_images: run.settings.test_images,
        }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Training σ number `k` of a stream.
    pub fn sigma(&self, stream: &str, k: u64) -> f64 {
        self.training.sigma(StandardNormal.sample(&mut self.streams.stream(stream, k)))
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
        let clean = split.batch(indices, PIXELS, &self.device)?;
        let noise = self.streams.normal_for(&format!("{name} noise"), positions, &IMAGE, &self.device)?;
        let stream = format!("{name} sigma");
        let sigmas: Vec<f64> =
            positions.iter().map(|&k| sigma.unwrap_or_else(|| self.sigma(&stream, k))).collect();
        let tensor = Tensor::from_iter(sigmas.iter().map(|&s| s as f32), &self.device)?;
        let batch = edm_batch(&clean, &noise, &tensor, self.sigma_data, self.noise_input)?;
        Ok((clean, sigmas, batch))
    }

    /// Mean squared error of the network on a shard of the training images.
    pub fn training_loss(&self, model: &UNet2DModel, shard: &Shard) -> Result<Tensor> {
        let positions: Vec<u64> = shard.positions.clone().collect();
        let (_, _, batch) = self.noised(&self.data.train, shard.indices, &positions, "training", None)?;
        loss(model, &batch)
    }

    /// Mean squared error over the test images, each with one noise and one σ, the same in every epoch.
    pub fn test_loss(&self, model: &UNet2DModel) -> Result<f64> {
        self.mean_loss(model, self.test_images, None)
    }

    /// Mean squared error over the first `n` test images, at one σ where it is given.
    pub fn mean_loss(&self, model: &UNet2DModel, n: usize, sigma: Option<f64>) -> Result<f64> {
        mean_over_images(n, &self.device, |indices| {
            let positions: Vec<u64> = indices.iter().map(|&i| i as u64).collect();
            let (_, _, batch) = self.noised(&self.data.test, indices, &positions, "test", sigma)?;
            loss(model, &batch)
        })
    }

    /// The network as it was before training.
    pub fn untrained(&self, run: &Run, config: &UNet2DConfig) -> Result<UNet2DModel> {
        let (model, params) = Params::init(&run.streams, &run.device, |vb| UNet2DModel::new(config, vb))?;
        notebook_init(&params, &run.streams)?;
        Ok(model)
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
