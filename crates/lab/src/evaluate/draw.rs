//! Drawing samples: one setting, one starting noise for each numbered image.

use crate::run::interrupt;
use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use elucidate_core::data::IMAGE;
use elucidate_core::params::is_finite;
use elucidate_core::rng::{Stream, Streams};
use elucidate_report::SampleRow;
use elucidate_samplers::{
    BrownianPaths, Denoiser, ImageNoise, NoiseSource, Preconditioned, Sampler, Setting,
};
use rand::RngExt;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// A way of sampling, as tables, charts and files name it.
pub trait Described {
    /// Fills in its columns of a row.
    fn describe(&self, row: &mut SampleRow);

    /// What charts and log lines call it, as in `heun 20 s_churn=0.5`.
    fn label(&self) -> String {
        let mut row = SampleRow::default();
        self.describe(&mut row);
        row.label()
    }

    /// Its label as files are named, as in `heun_20_s_churn=0.5`: another one for each way that differs.
    fn file_name(&self) -> String;
}

impl Described for Setting {
    fn describe(&self, row: &mut SampleRow) {
        row.sampler = self.sampler.name().to_string();
        row.setting = Some(self.text());
        row.label = Some(Setting::label(self));
        row.steps = self.number("steps").map(|steps| steps as usize);
        row.order = self.number("order").map(|order| order as usize);
        let columns = [
            ("rho", &mut row.rho),
            ("sigma_min", &mut row.sigma_min),
            ("sigma_max", &mut row.sigma_max),
            ("eta", &mut row.eta),
            ("s_churn", &mut row.s_churn),
        ];
        for (option, column) in columns {
            *column = self.number(option);
        }
    }

    fn file_name(&self) -> String {
        Setting::file_name(self)
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
    ///
    /// # Errors
    /// Those of `of_batch`.
    pub fn cat<E: From<candle_core::Error> + Send>(
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

    /// `f` of images x (n, …), a batch of them at a time; it is told their places.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn map(
        &self,
        x: &Tensor,
        f: impl Fn(&Tensor, Range<usize>) -> candle_core::Result<Tensor> + Sync,
    ) -> candle_core::Result<Tensor> {
        self.cat(x.dim(0)?, |range| {
            let (from, to) = (range.start as usize, range.end as usize);
            f(&x.narrow(0, from, to - from)?, from..to)
        })
    }
}

/// Images in a group: where a method looks across images, it looks across these.
pub const GROUP: usize = 512;

/// What was drawn.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// (n, 1, 32, 32), clamped to \[−1, 1\].
    pub images: Tensor,
    /// Network evaluations for each of them; where groups took different numbers, their mean, rounded.
    pub nfe: usize,
}

/// Draws the samples numbered 0 to `n` − 1 with a model.
///
/// Sample k begins with noise from stream ("starting noise", k), whatever the setting, and takes its further noise from
/// stream ("sampling noise", k), on the SDE from the Brownian path that ("Brownian path", k) is the seed of: so settings are
/// compared on the same noise, and neither batch nor threads matter. `progress` is told of images as they are done.
///
/// # Errors
/// When the setting is impossible, the model fails, an answer of it is not finite, or the run was asked to stop.
pub fn draw<N>(
    denoiser: &Preconditioned<N>,
    setting: &Setting,
    streams: &Streams,
    n: usize,
    batches: &Batches,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Drawn>
where
    Preconditioned<N>: Denoiser + Sync,
{
    let sigmas = setting.sigmas(&denoiser.preconditioning)?;
    let std = setting.sampler.start_std(sigmas[0]);
    let evaluations = Mutex::new(vec![]);
    let one_batch = |range: Range<u64>, denoiser: &dyn Denoiser| -> Result<Tensor> {
        let start = streams.normal_images("starting noise", range.clone(), &IMAGE, &batches.device)?;
        let noise = &mut *noise_source(&setting.sampler, streams, range.clone());
        let sampled = setting.sampler.sample(denoiser, &(start * std)?, &sigmas, noise, &mut |_| Ok(()))?;
        evaluations.lock().expect("no thread panics while it holds the lock").push(sampled.nfe);
        progress((range.end - range.start) as usize);
        finished(&sampled.images)
    };
    let watched = Watched(denoiser);
    let images = if setting.sampler.looks_across_images() {
        let in_batches = InBatches { denoiser: &watched, batches };
        let groups = ranges(n, GROUP).into_iter().map(|range| one_batch(range, &in_batches));
        Tensor::cat(&groups.collect::<Result<Vec<_>>>()?, 0)?
    } else {
        batches.cat(n, |range| one_batch(range, &watched))?
    };
    let evaluations = evaluations.into_inner().expect("no thread panics while it holds the lock");
    let mean = evaluations.iter().sum::<usize>() as f64 / evaluations.len().max(1) as f64;
    Ok(Drawn { images, nfe: mean.round() as usize })
}

/// The noise of the images numbered `range`, as the sampler should have it.
fn noise_source(sampler: &Sampler, streams: &Streams, range: Range<u64>) -> Box<dyn NoiseSource> {
    match sampler.is_sde() {
        true => {
            Box::new(BrownianPaths::new(range.map(|k| streams.stream("Brownian path", k).random()).collect()))
        }
        false => Box::new(image_noise(streams, range)),
    }
}

/// Independent noise: each image from its own stream.
pub fn image_noise(streams: &Streams, range: Range<u64>) -> ImageNoise<Stream> {
    ImageNoise::new(range.map(|k| streams.stream("sampling noise", k)).collect())
}

/// A denoiser that takes a few of many images at a time.
struct InBatches<'a> {
    denoiser: &'a (dyn Denoiser + Sync),
    batches: &'a Batches,
}

impl Denoiser for InBatches<'_> {
    fn denoise(&self, x: &Tensor, sigma: &[f64]) -> candle_core::Result<Tensor> {
        self.batches.map(x, |x, places| self.denoiser.denoise(x, &sigma[places]))
    }
}

/// Samples clamped to [−1, 1].
///
/// # Errors
/// When one is not finite.
pub fn finished(samples: &Tensor) -> Result<Tensor> {
    ensure!(is_finite(samples)?, "samples are not finite after the last step");
    Ok(samples.clamp(-1.0, 1.0)?)
}

/// A denoiser that ends where the run was asked to stop, or the model's answer is not finite.
struct Watched<'a>(&'a (dyn Denoiser + Sync));

impl Denoiser for Watched<'_> {
    fn denoise(&self, x: &Tensor, sigma: &[f64]) -> candle_core::Result<Tensor> {
        let answer = self.0.denoise(x, sigma)?;
        watch(&answer, || format!("σ {}", sigma.iter().copied().fold(0.0, f64::max)))?;
        Ok(answer)
    }
}

/// An error where the run was asked to stop, or `answer`, a network's at the noise level that `level` names, is not
/// finite.
///
/// # Errors
/// Those.
pub fn watch(answer: &Tensor, level: impl Fn() -> String) -> candle_core::Result<()> {
    interrupt::check().map_err(candle_core::Error::wrap)?;
    if !is_finite(answer)? {
        candle_core::bail!("the model's answer at {} is not finite", level());
    }
    Ok(())
}

/// 0 to `n` − 1 in ranges of `size`; the last may be shorter.
pub fn ranges(n: usize, size: usize) -> Vec<Range<u64>> {
    (0..n).step_by(size).map(|from| from as u64..(from + size).min(n) as u64).collect()
}
