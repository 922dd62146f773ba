//! Drawing samples: one setting, one starting noise for each numbered image.

use crate::interrupt;
use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use elucidate_core::data::IMAGE;
use elucidate_core::params::is_finite;
use elucidate_core::rng::{Stream, Streams, fill_normal};
use elucidate_report::SampleRow;
use elucidate_samplers::{Denoiser, Sampler};
use elucidate_schedules::karras_sigmas;
use rayon::prelude::*;
use std::ops::Range;

/// A sampler and the σ steps that it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The sampler with its own options.
    pub sampler: Sampler,
    /// How many steps it takes, the last one down to σ = 0.
    pub steps: usize,
    /// Curvature of the σ steps, Karras 2022 eq. 5.
    pub rho: f64,
    /// The smallest σ above 0.
    pub sigma_min: f64,
    /// The σ to begin with.
    pub sigma_max: f64,
}

impl Setting {
    /// A sampler over the notebook's σ steps: ρ 7, from 80 down to 0.01, then 0.
    pub fn notebook(sampler: Sampler, steps: usize) -> Self {
        Self { sampler, steps, rho: 7.0, sigma_min: 0.01, sigma_max: 80.0 }
    }

    /// Its σ steps.
    ///
    /// # Errors
    /// When they are impossible.
    pub fn sigmas(&self) -> Result<Vec<f64>> {
        Ok(karras_sigmas(self.steps, self.sigma_min, self.sigma_max, self.rho)?)
    }

    /// Network evaluations for each sample.
    pub fn nfe(&self) -> usize {
        self.sampler.nfe(self.steps)
    }
}

/// A way of sampling, as tables, charts and files name it.
pub trait Described {
    /// Fills in its columns of a row.
    fn describe(&self, row: &mut SampleRow);

    /// What charts and log lines call it, as in `heun 20, churn 0.5`.
    fn label(&self) -> String {
        let mut row = SampleRow::default();
        self.describe(&mut row);
        row.label()
    }

    /// Its label as files are named, as in `heun_20_churn_0.5`.
    fn file_name(&self) -> String {
        let ascii = self.label().replace('η', "eta").replace('σ', "sigma").replace('ρ', "rho");
        ascii.replace(',', "").replace(' ', "_")
    }
}

impl Described for Setting {
    fn describe(&self, row: &mut SampleRow) {
        row.sampler = self.sampler.name().to_string();
        row.steps = Some(self.steps);
        row.nfe = Some(self.nfe());
        row.rho = Some(self.rho);
        row.sigma_min = Some(self.sigma_min);
        row.sigma_max = Some(self.sigma_max);
        match self.sampler {
            Sampler::Euler => {}
            Sampler::EulerAncestral { eta } => row.eta = Some(eta),
            Sampler::Heun { churn } => row.s_churn = Some(churn.s_churn),
            Sampler::Lms { order } => row.order = Some(order),
        }
    }
}

/// Images that go through the network together, and where: few enough on a CPU that their activations stay in the caches of
/// one core. The samples do not depend on it.
#[derive(Debug, Clone)]
pub struct Batches {
    /// Where it computes.
    pub device: Device,
    /// Images in a batch.
    pub size: usize,
}

impl Batches {
    /// Of `size` images, or of as many as suit the device.
    pub fn new(device: &Device, size: Option<usize>) -> Self {
        let suits = if device.is_cpu() { 32 } else { 1024 };
        Self { device: device.clone(), size: size.unwrap_or(suits) }
    }

    /// `of_batch` of images 0 to `n` − 1, a batch of their numbers at a time, put together in order. On the CPU each core
    /// takes whole batches: nothing waits for the ops that candle runs on one thread.
    pub(crate) fn cat<E: From<candle_core::Error> + Send>(
        &self,
        n: usize,
        of_batch: impl Fn(Range<u64>) -> Result<Tensor, E> + Sync,
    ) -> Result<Tensor, E> {
        let ranges = ranges(n, self.size);
        let batches: Vec<Tensor> = match self.device.is_cpu() {
            true => ranges.into_par_iter().map(&of_batch).collect::<Result<_, E>>()?,
            false => ranges.into_iter().map(&of_batch).collect::<Result<_, E>>()?,
        };
        Ok(Tensor::cat(&batches, 0)?)
    }
}

/// Draws the samples numbered 0 to `n` − 1: (n, 1, 32, 32), clamped to [−1, 1].
///
/// Sample k begins with noise from stream ("starting noise", k), whatever the setting, and takes its further noise from
/// stream ("sampling noise", k): so settings are compared on the same noise, and neither batch nor threads matter.
/// `progress` is told of each batch's images as they are done.
///
/// # Errors
/// When the setting is impossible, the model fails, an answer of it is not finite, or the run was asked to stop.
pub fn draw(
    denoiser: &(impl Denoiser + Sync),
    setting: &Setting,
    streams: &Streams,
    n: usize,
    batches: &Batches,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Tensor> {
    let sigmas = setting.sigmas()?;
    let denoiser = Watched(denoiser);
    batches.cat(n, |range| -> Result<Tensor> {
        let start = streams.normal_images("starting noise", range.clone(), &IMAGE, &batches.device)?;
        let start = (start * setting.sigma_max)?;
        let mut noise = StepNoise::new(streams, range.clone());
        let samples = setting.sampler.sample(&denoiser, &start, &sigmas, &mut |like| noise.next(like))?;
        progress((range.end - range.start) as usize);
        finished(&samples)
    })
}

/// Samples clamped to [−1, 1].
///
/// # Errors
/// When one is not finite.
pub(crate) fn finished(samples: &Tensor) -> Result<Tensor> {
    ensure!(is_finite(samples)?, "samples are not finite after the last step");
    Ok(samples.clamp(-1.0, 1.0)?)
}

/// A denoiser that ends where the run was asked to stop, or the model's answer is not finite.
struct Watched<'a, D>(&'a D);

impl<D: Denoiser> Denoiser for Watched<'_, D> {
    fn denoise(&self, x: &Tensor, sigma: &Tensor) -> candle_core::Result<Tensor> {
        let answer = self.0.denoise(x, sigma)?;
        watch(&answer, || Ok(format!("σ {}", sigma.max_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?)))?;
        Ok(answer)
    }
}

/// An error where the run was asked to stop, or `answer`, a network's at the noise level that `level` names, is not
/// finite.
pub(crate) fn watch(
    answer: &Tensor,
    level: impl Fn() -> candle_core::Result<String>,
) -> candle_core::Result<()> {
    interrupt::check().map_err(candle_core::Error::wrap)?;
    if !is_finite(answer)? {
        candle_core::bail!("the model's answer at {} is not finite", level()?);
    }
    Ok(())
}

/// 0 to `n` − 1 in ranges of `size`; the last may be shorter.
pub(crate) fn ranges(n: usize, size: usize) -> Vec<Range<u64>> {
    (0..n).step_by(size).map(|from| from as u64..(from + size).min(n) as u64).collect()
}

/// The noise that a stochastic sampler asks for step by step: each image from its own stream.
pub(crate) struct StepNoise {
    streams: Vec<Stream>,
}

impl StepNoise {
    pub(crate) fn new(streams: &Streams, range: Range<u64>) -> Self {
        Self { streams: range.map(|k| streams.stream("sampling noise", k)).collect() }
    }

    pub(crate) fn next(&mut self, like: &Tensor) -> candle_core::Result<Tensor> {
        let mut values = vec![0f32; like.elem_count()];
        let size = values.len() / self.streams.len();
        let images = self.streams.par_iter_mut().zip(values.par_chunks_exact_mut(size));
        images.for_each(|(stream, image)| fill_normal(stream, image));
        Tensor::from_vec(values, like.shape(), &Device::Cpu)?.to_device(like.device())
    }
}
