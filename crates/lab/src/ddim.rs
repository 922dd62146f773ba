//! Drawing samples with the lesson's DDIM, in fixed groups of numbered images.

use crate::sampling::{Described, StepNoise, chunk_size, finished, ranges};
use anyhow::Result;
use candle_core::{Device, Tensor};
use elucidate_core::data::{IMAGE, PixelRange};
use elucidate_core::rng::Streams;
use elucidate_report::SampleRow;
use elucidate_samplers::{Ddim, DdimStep, Estimates, Estimator, SigmaRule, ddim};
use elucidate_schedules::cosine::sigmoid;
use rayon::prelude::*;

/// Images in a group: where a method looks across images, it looks across these.
pub const GROUP: usize = 512;

/// DDIM with its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DdimSetting {
    /// How many steps it takes: as many network evaluations.
    pub steps: usize,
    /// Its options.
    pub options: Ddim,
    /// What is done with estimates of the noise level; nothing where the schedule's is used.
    pub estimates: Option<Estimates>,
}

impl DdimSetting {
    /// What was changed, as the column `variant` says it.
    fn variant(&self) -> Option<&'static str> {
        self.estimates.map(|estimates| match (estimates.near_median, estimates.sigma) {
            (true, SigmaRule::Schedule) => "estimated",
            (true, SigmaRule::Median) => "estimated, σ of the median",
            (true, SigmaRule::Halved) => "estimated, σ halved",
            (false, _) => "estimated, not clamped",
        })
    }
}

impl Described for DdimSetting {
    fn label(&self) -> String {
        let variant = self.variant().map_or_else(String::new, |variant| format!(", {variant}"));
        format!("ddim {} η {}{variant}", self.steps, self.options.eta)
    }

    fn describe(&self, row: &mut SampleRow) {
        row.sampler = "ddim".to_string();
        row.steps = Some(self.steps);
        row.nfe = Some(self.steps);
        row.eta = Some(self.options.eta);
        row.variant = self.variant().map(str::to_string);
    }
}

/// A function of images, which many threads may call.
pub type OfImages<'a> = &'a (dyn Fn(&Tensor) -> candle_core::Result<Tensor> + Sync);

/// A network that predicts the noise, on pixels x − ½.
#[derive(Clone, Copy)]
pub struct EpsModel<'a> {
    /// x_t (n, 1, 32, 32) and t (n) to ε̂.
    pub network: &'a (dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync),
    /// x_t to an estimate of logit ᾱ for each image, (n): for settings with estimates.
    pub estimator: Option<OfImages<'a>>,
}

impl EpsModel<'_> {
    /// ε̂ of x_t (n, 1, 32, 32) at time `t`.
    fn noise(&self, x: &Tensor, t: f64) -> candle_core::Result<Tensor> {
        in_chunks(x, |x| (self.network)(x, &Tensor::full(t as f32, x.dim(0)?, x.device())?))
    }

    /// The estimator's ᾱ of each image of x_t (n, 1, 32, 32).
    ///
    /// # Errors
    /// When there is no estimator, or it fails.
    pub fn estimates(&self, x: &Tensor) -> candle_core::Result<Vec<f64>> {
        let Some(estimator) = self.estimator else {
            candle_core::bail!("estimates need a model that makes them");
        };
        let logits = in_chunks(x, estimator)?.to_vec1::<f32>()?;
        Ok(logits.into_iter().map(|logit| sigmoid(f64::from(logit))).collect())
    }
}

/// Draws the samples numbered 0 to `n` − 1: (n, 1, 32, 32), taken to [−1, 1] and clamped there. Their noise is that of
/// [`crate::sampling::draw`]. `progress` is told of each group's images as they are done, `observe` of every step of
/// every group.
///
/// # Errors
/// When the setting is impossible or needs an estimator that the model lacks, the model fails, or a sample is not finite.
pub fn draw_ddim(
    model: EpsModel,
    setting: &DdimSetting,
    streams: &Streams,
    n: usize,
    device: &Device,
    progress: &(dyn Fn(usize) + Sync),
    observe: &mut dyn FnMut(DdimStep) -> candle_core::Result<()>,
) -> Result<Tensor> {
    let network = |x: &Tensor, t: f64| model.noise(x, t);
    let estimate = |x: &Tensor| model.estimates(x);
    let estimator = setting.estimates.map(|estimates| (&estimate as Estimator, estimates));
    let mut groups = vec![];
    for range in ranges(n, GROUP) {
        let start = streams.normal_images("starting noise", range.clone(), &IMAGE, device)?;
        let mut noise = StepNoise::new(streams, range.clone());
        let noise = &mut |like: &Tensor| noise.next(like);
        let samples = ddim(network, &start, setting.steps, setting.options, estimator, noise, observe)?;
        groups.push(finished(&to_signed(&samples)?, &setting.label())?);
        progress((range.end - range.start) as usize);
    }
    Ok(Tensor::cat(&groups, 0)?)
}

/// Images of pixels x − ½ as those of 2x − 1.
///
/// # Errors
/// Those of the device.
pub fn to_signed(images: &Tensor) -> candle_core::Result<Tensor> {
    images * f64::from(PixelRange::SIGNED.scale / PixelRange::CENTRED.scale)
}

/// `f` of all images, some at a time: on the CPU each core takes some of its own.
fn in_chunks(
    x: &Tensor,
    f: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Sync,
) -> candle_core::Result<Tensor> {
    let ranges = ranges(x.dim(0)?, chunk_size(x.device()));
    let part = |range: std::ops::Range<u64>| {
        f(&x.narrow(0, range.start as usize, (range.end - range.start) as usize)?)
    };
    let parts: Vec<Tensor> = match x.device().is_cpu() {
        true => ranges.into_par_iter().map(part).collect::<candle_core::Result<_>>()?,
        false => ranges.into_iter().map(part).collect::<candle_core::Result<_>>()?,
    };
    Tensor::cat(&parts, 0)
}
