//! What a diffusion model is trained on: noised images, the network's targets, and its losses.

use super::images::{Images, numbers};
use super::recipe::mean_over_images;
use super::uncertainty::Uncertainty;
use crate::run::Run;
use candle_core::{Device, Result, Tensor};
use elucidate_core::data::{PixelRange, Split};
use elucidate_core::params::Params;
use elucidate_core::train::Shard;
use elucidate_core::unet::{UNet2DConfig, UNet2DModel, notebook_init};
use elucidate_samplers::{Preconditioned, TrainingBatch};
use elucidate_schedules::{LossWeight, Preconditioning, TrainingNoise, stratified};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

/// The data's standard deviation where a prediction assumes none: the notebook's for Fashion-MNIST.
const SIGMA_DATA: f64 = 0.66;

/// The choices of a training (Karras 2022, table 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    /// What the network's input, time and answer mean.
    pub preconditioning: Preconditioning,
    /// The distribution of σ.
    pub training_noise: TrainingNoise,
    /// Whether each batch takes one σ from each of as many equal parts of the distribution as it has images.
    pub stratified: bool,
    /// How errors at each σ count.
    pub loss_weight: LossWeight,
}

impl Choices {
    /// The lesson's 22_cosine, and 22_no_t where the time is not told.
    pub fn lesson_eps(told_time: bool) -> Self {
        Self {
            preconditioning: Preconditioning::lesson_eps(told_time),
            training_noise: TrainingNoise::UniformTime {},
            stratified: false,
            loss_weight: LossWeight::Unit,
        }
    }
}

/// The training of one set of choices on a run's images.
#[derive(Debug, Clone)]
pub struct Objective {
    /// The choices.
    pub choices: Choices,
    images: Images,
}

/// What is trained: the UNet and, where the weight of errors is learned, what learns it.
#[derive(Debug, Clone)]
pub struct Networks {
    /// The UNet.
    pub model: UNet2DModel,
    /// u(σ) of [`LossWeight::Learned`].
    pub uncertainty: Option<Uncertainty>,
}

/// Noised images: what the network is given, and where they come from.
#[derive(Debug, Clone)]
pub struct Noised {
    /// The clean images, pixels of \[−1,1\].
    pub clean: Tensor,
    /// Each image's noise level.
    pub sigmas: Vec<f64>,
    /// As the network sees them.
    pub batch: TrainingBatch,
}

impl Objective {
    /// That of a run.
    pub fn new(run: &Run, choices: Choices) -> Self {
        Self { choices, images: Images::of(run, PixelRange::SIGNED) }
    }

    /// Where the images are.
    pub fn device(&self) -> &Device {
        &self.images.device
    }

    /// Training σ number `k` of the stream `"{name} sigma"` or, where t is drawn, `"{name} time"`; `place` is the image's place in its batch and the batch's size, where σ are stratified.
    pub fn sigma(&self, name: &str, k: u64, place: Option<(usize, usize)>) -> f64 {
        let Choices { preconditioning: Preconditioning { schedule, scale, .. }, training_noise, .. } =
            self.choices;
        let drawn = if training_noise == (TrainingNoise::UniformTime {}) { "time" } else { "sigma" };
        let mut stream = self.images.streams.stream(&format!("{name} {drawn}"), k);
        let quantile = |u: f64| training_noise.sigma(u, &schedule, scale);
        match (place, training_noise) {
            (Some((i, n)), _) => quantile(stratified(stream.random(), i, n)),
            (None, TrainingNoise::LogNormal { p_mean, p_std }) => {
                let z: f64 = StandardNormal.sample(&mut stream);
                (p_mean + p_std * z).exp()
            }
            (None, _) => quantile(stream.random()),
        }
    }

    /// Images `indices` of `split`, noised with numbers `positions` of the streams `"{name} noise"` and, unless `sigma` fixes
    /// it, those of [`Objective::sigma`].
    ///
    /// # Errors
    /// When an index is too large, or the device fails.
    pub fn noised(
        &self,
        split: &Split,
        indices: &[usize],
        positions: &[u64],
        name: &str,
        sigma: Option<f64>,
    ) -> Result<Noised> {
        let sigmas = positions.iter().map(|&k| sigma.unwrap_or_else(|| self.sigma(name, k, None))).collect();
        self.noised_at(split, indices, positions, name, sigmas)
    }

    fn noised_at(
        &self,
        split: &Split,
        indices: &[usize],
        positions: &[u64],
        name: &str,
        sigmas: Vec<f64>,
    ) -> Result<Noised> {
        let (clean, noise) = self.images.with_noise(split, indices, positions, name)?;
        let batch = TrainingBatch::new(&self.choices.preconditioning, &clean, &noise, &sigmas)?;
        Ok(Noised { clean, sigmas, batch })
    }

    /// Loss of the network on a shard of the training images.
    ///
    /// # Errors
    /// When the network fails.
    pub fn training_loss(&self, networks: &Networks, shard: &Shard) -> Result<Tensor> {
        let positions: Vec<u64> = shard.positions.clone().collect();
        let place = |k: u64| {
            let size = (shard.batch.end - shard.batch.start) as usize;
            self.choices.stratified.then_some(((k - shard.batch.start) as usize, size))
        };
        let sigmas = positions.iter().map(|&k| self.sigma("training", k, place(k))).collect();
        let noised =
            self.noised_at(&self.images.data.train, shard.indices, &positions, "training", sigmas)?;
        if self.choices.loss_weight == LossWeight::Unit {
            return mean_squared_error(&networks.model, &noised.batch);
        }
        let errors = squared_error(&networks.model, &noised.batch)?.flatten_from(1)?.mean(1)?;
        match &networks.uncertainty {
            Some(uncertainty) => uncertainty.loss(&errors, &noised.sigmas),
            None => (errors * self.weights(&noised.sigmas)?)?.mean_all(),
        }
    }

    /// The networks that are trained, freshly made, and their parameters.
    ///
    /// # Errors
    /// Those of the device.
    pub fn networks(&self, config: &UNet2DConfig) -> Result<(Networks, Params)> {
        let Images { streams, device, .. } = &self.images;
        let learned = self.choices.loss_weight == LossWeight::Learned;
        let (networks, params) = Params::init(streams, device, |vb| {
            let uncertainty = learned.then(|| Uncertainty::new(streams, &vb)).transpose()?;
            Ok(Networks { model: UNet2DModel::new(config, vb)?, uncertainty })
        })?;
        notebook_init(&params, streams)?;
        Ok((networks, params))
    }

    fn weights(&self, sigmas: &[f64]) -> Result<Tensor> {
        let Choices { preconditioning, loss_weight, .. } = &self.choices;
        let sigma_data = preconditioning.sigma_data().unwrap_or(SIGMA_DATA);
        let weight = |&sigma: &f64| loss_weight.factor(sigma, preconditioning, sigma_data) as f32;
        Tensor::from_iter(sigmas.iter().map(weight), &self.images.device)
    }

    /// Mean squared error over the test images, each with one noise and one σ, the same in every epoch; weights left out.
    ///
    /// # Errors
    /// When the network fails.
    pub fn test_loss(&self, model: &UNet2DModel) -> Result<f64> {
        self.mean_loss(model, self.images.test_images, None)
    }

    /// Mean squared error over the first `n` test images, at one σ where it is given; weights left out.
    ///
    /// # Errors
    /// When the network fails.
    pub fn mean_loss(&self, model: &UNet2DModel, n: usize, sigma: Option<f64>) -> Result<f64> {
        mean_over_images(n, &self.images.device, |indices| {
            let noised = self.noised(&self.images.data.test, indices, &numbers(indices), "test", sigma)?;
            mean_squared_error(model, &noised.batch)
        })
    }

    /// The denoiser that the trained network makes.
    pub fn denoiser<'a>(
        &self,
        model: &'a UNet2DModel,
    ) -> Preconditioned<impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Sync + use<'a>> {
        Preconditioned::new(|x: &Tensor, time: &Tensor| model.forward(x, time), self.choices.preconditioning)
    }
}

fn squared_error(model: &UNet2DModel, batch: &TrainingBatch) -> Result<Tensor> {
    (model.forward(&batch.input, &batch.time)? - &batch.target)?.sqr()
}

fn mean_squared_error(model: &UNet2DModel, batch: &TrainingBatch) -> Result<Tensor> {
    squared_error(model, batch)?.mean_all()
}
