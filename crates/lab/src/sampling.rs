//! Drawing samples: one setting, one starting noise for each numbered image.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use elucidate_core::data::IMAGE;
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
    /// What charts and log lines call it, as in `heun 20 churn 0.5`.
    fn label(&self) -> String;

    /// Fills in its columns of a row.
    fn describe(&self, row: &mut SampleRow);

    /// Its label as files are named, as in `heun_20_churn_0.5`.
    fn file_name(&self) -> String {
        self.label().replace('η', "eta").replace('σ', "sigma").replace(',', "").replace(' ', "_")
    }
}

impl Described for Setting {
    fn label(&self) -> String {
        let option = match self.sampler {
            Sampler::EulerAncestral { eta } => format!(" η {eta}"),
            Sampler::Heun { churn } if churn.s_churn > 0.0 => format!(" churn {}", churn.s_churn),
            _ => String::new(),
        };
        format!("{} {}{option}", self.sampler.name(), self.steps)
    }

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

/// Images that go through the network together: few enough that their activations stay in the caches of one core.
const CHUNK_CPU: usize = 32;
const CHUNK_CUDA: usize = 1024;

/// Draws the samples numbered 0 to `n` − 1: (n, 1, 32, 32), clamped to [−1, 1].
///
/// Sample k begins with noise from stream ("starting noise", k), whatever the setting, and takes its further noise from
/// stream ("sampling noise", k): so settings are compared on the same noise, and neither batch nor threads matter.
/// `progress` is told of each chunk's images as they are done.
///
/// # Errors
/// When the setting is impossible, the model fails, or a sample is not finite.
pub fn draw(
    denoiser: &(impl Denoiser + Sync),
    setting: &Setting,
    streams: &Streams,
    n: usize,
    device: &Device,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Tensor> {
    let sigmas = setting.sigmas()?;
    let chunk = |range: Range<u64>| -> Result<Tensor> {
        let start = streams.normal_images("starting noise", range.clone(), &IMAGE, device)?;
        let start = (start * setting.sigma_max)?;
        let mut noise = StepNoise::new(streams, range.clone());
        let samples = setting.sampler.sample(denoiser, &start, &sigmas, &mut |like| noise.next(like))?;
        progress((range.end - range.start) as usize);
        finished(&samples, &setting.label())
    };
    let ranges = ranges(n, chunk_size(device));
    // On the CPU each core takes whole chunks: nothing waits for the ops that candle runs on one thread.
    let chunks: Vec<Tensor> = match device.is_cpu() {
        true => ranges.into_par_iter().map(chunk).collect::<Result<_>>()?,
        false => ranges.into_iter().map(chunk).collect::<Result<_>>()?,
    };
    Ok(Tensor::cat(&chunks, 0)?)
}

/// Images that go through the network together.
pub(crate) fn chunk_size(device: &Device) -> usize {
    if device.is_cpu() { CHUNK_CPU } else { CHUNK_CUDA }
}

/// 0 to `n` − 1 in ranges of `size`; the last may be shorter.
pub(crate) fn ranges(n: usize, size: usize) -> Vec<Range<u64>> {
    (0..n).step_by(size).map(|from| from as u64..(from + size).min(n) as u64).collect()
}

/// Samples clamped to [−1, 1].
///
/// # Errors
/// When one is not finite.
pub(crate) fn finished(samples: &Tensor, label: &str) -> Result<Tensor> {
    let size = samples.sqr()?.sum_all()?.to_scalar::<f32>()?;
    ensure!(size.is_finite(), "samples of {label} are not finite: the model is broken");
    Ok(samples.clamp(-1.0, 1.0)?)
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
