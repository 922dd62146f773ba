//! Images noised to an ᾱ that is uniform in (0,1), and what the network should say of them.

use candle_core::{Result, Tensor};
use elucidate_core::data::{PixelRange, Split};
use elucidate_core::train::Shard;
use elucidate_lab::run::Run;
use elucidate_lab::train::images::{Images, numbers};
use elucidate_lab::train::noise_level::NoiseLevelModel;
use elucidate_lab::train::recipe::{map_images, mean_over_images};
use elucidate_samplers::TrainingBatch;
use elucidate_schedules::{Preconditioning, logit, sigma_of_alpha_bar, sigmoid};
use rand_distr::{Distribution, Open01};

/// What a network is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// logit ᾱ, as in the notebook.
    Logit,
    /// ᾱ itself: the ablation.
    AlphaBar,
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Self::Logit => "logit ᾱ",
            Self::AlphaBar => "ᾱ",
        }
    }

    fn of(self, alpha_bar: f64) -> f64 {
        match self {
            Self::Logit => logit(alpha_bar),
            Self::AlphaBar => alpha_bar,
        }
    }

    /// What an answer says of ᾱ: within \[0.001, 0.999\] where it is ᾱ itself, since it may lie outside (0,1).
    pub fn alpha_bar(self, answer: f64) -> f64 {
        match self {
            Self::Logit => sigmoid(answer),
            Self::AlphaBar => answer.clamp(0.001, 0.999),
        }
    }
}

/// Noise levels at which each test image is read in the end: of one alone, the few that are nearly all image or all noise decide what the
/// mean squared error is.
pub const DRAWS: usize = 10;

/// The data and how it is noised.
pub struct NoisedData {
    images: Images,
}

impl NoisedData {
    pub fn new(run: &Run) -> Self {
        Self { images: Images::of(run, PixelRange::SIGNED) }
    }

    /// ᾱ number `k` of a stream.
    fn alpha_bar(&self, name: &str, k: u64) -> f64 {
        Open01.sample(&mut self.images.streams.stream(&format!("{name} alpha_bar"), k))
    }

    /// logit ᾱ of the first `n` test images.
    pub fn logits(&self, n: usize) -> Vec<f64> {
        (0..n as u64).map(|k| logit(self.alpha_bar("test", k))).collect()
    }

    /// Images x_t as the lesson's ε networks see them, noised with numbers `positions` of the streams `"{name} noise"` and `"{name} alpha_bar"`, and their ᾱ.
    pub fn noised(
        &self,
        split: &Split,
        indices: &[usize],
        positions: &[u64],
        name: &str,
    ) -> Result<(Tensor, Vec<f64>)> {
        let (clean, noise) = self.images.with_noise(split, indices, positions, name)?;
        let alpha_bars: Vec<f64> = positions.iter().map(|&k| self.alpha_bar(name, k)).collect();
        let model = Preconditioning::lesson_eps(false);
        let sigmas: Vec<f64> = alpha_bars.iter().map(|&a| sigma_of_alpha_bar(a) / model.scale).collect();
        Ok((TrainingBatch::new(&model, &clean, &noise, &sigmas)?.input, alpha_bars))
    }

    /// Test images noised, always the same way.
    pub fn noised_test(&self, indices: &[usize]) -> Result<(Tensor, Vec<f64>)> {
        self.noised(&self.images.data.test, indices, &numbers(indices), "test")
    }

    /// Mean squared error on a batch of the training images, normalised by its own statistics, with dropout.
    pub fn training_loss(&self, model: &NoiseLevelModel, shard: &Shard, target: Target) -> Result<Tensor> {
        let positions: Vec<u64> = shard.positions.clone().collect();
        let (x, alpha_bars) = self.noised(&self.images.data.train, shard.indices, &positions, "training")?;
        let answer = model.forward_in_training(&x, &self.images.streams, &positions)?;
        self.loss(&answer, &alpha_bars, target)
    }

    /// Mean squared error over the test images.
    pub fn test_loss(&self, model: &NoiseLevelModel, target: Target) -> Result<f64> {
        mean_over_images(self.images.test_images, &self.images.device, |indices| {
            let (x, alpha_bars) = self.noised_test(indices)?;
            self.loss(&model.forward(&x)?, &alpha_bars, target)
        })
    }

    fn loss(&self, answer: &Tensor, alpha_bars: &[f64], target: Target) -> Result<Tensor> {
        let wanted = Tensor::from_iter(alpha_bars.iter().map(|&a| target.of(a) as f32), &self.images.device)?;
        (answer - wanted)?.sqr()?.mean_all()
    }

    /// True ᾱ and the network's answer for the test images, each noised [`DRAWS`] times: all images of the first draw, which is that of
    /// [`Self::test_loss`], then those of the next.
    pub fn answers(&self, model: &NoiseLevelModel) -> Result<Vec<(f64, f64)>> {
        let n = self.images.test_images;
        let groups = map_images(DRAWS * n, &self.images.device, |draws| {
            let images: Vec<usize> = draws.iter().map(|draw| draw % n).collect();
            let (x, alpha_bars) = self.noised(&self.images.data.test, &images, &numbers(draws), "test")?;
            let answers = model.forward(&x)?.to_vec1::<f32>()?;
            Ok(alpha_bars.into_iter().zip(answers.into_iter().map(f64::from)).collect::<Vec<_>>())
        })?;
        Ok(groups.concat())
    }
}
