//! Drawing samples with the lesson's DDIM, in fixed groups of numbered images.

use crate::sampling::{Batches, Described, StepNoise, finished, ranges, watch};
use anyhow::Result;
use candle_core::Tensor;
use elucidate_core::data::{IMAGE, PixelRange};
use elucidate_core::rng::Streams;
use elucidate_report::SampleRow;
use elucidate_samplers::{Ddim, DdimStep, Estimates, Estimator, SigmaRule, ddim};
use elucidate_schedules::cosine::sigmoid;

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
    fn variant(&self) -> Option<String> {
        let Estimates { near_median, sigma } = self.estimates?;
        let clamp = match near_median {
            Some(2.0) => String::new(),
            Some(factor) => format!(", within {factor} of the median"),
            None => ", not clamped".to_string(),
        };
        let sigma = match sigma {
            SigmaRule::Schedule => "",
            SigmaRule::Median => ", σ of the median",
            SigmaRule::Halved => ", σ halved",
        };
        Some(format!("estimated{clamp}{sigma}"))
    }
}

impl Described for DdimSetting {
    fn describe(&self, row: &mut SampleRow) {
        row.sampler = "ddim".to_string();
        row.steps = Some(self.steps);
        row.nfe = Some(self.steps);
        row.eta = Some(self.options.eta);
        row.variant = self.variant();
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
    /// Images that it takes together.
    pub batches: &'a Batches,
}

impl EpsModel<'_> {
    /// ε̂ of x_t (n, 1, 32, 32) at time `t`.
    fn noise(&self, x: &Tensor, t: f64) -> candle_core::Result<Tensor> {
        self.in_batches(x, |x| {
            let answer = (self.network)(x, &Tensor::full(t as f32, x.dim(0)?, x.device())?)?;
            watch(&answer, || Ok(format!("t {t}")))?;
            Ok(answer)
        })
    }

    /// `f` of all images x (n, …), some at a time.
    fn in_batches(
        &self,
        x: &Tensor,
        f: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Sync,
    ) -> candle_core::Result<Tensor> {
        self.batches.cat(x.dim(0)?, |range| {
            f(&x.narrow(0, range.start as usize, (range.end - range.start) as usize)?)
        })
    }

    /// The estimator's ᾱ of each image of x_t (n, 1, 32, 32).
    ///
    /// # Errors
    /// When there is no estimator, or it fails.
    pub fn estimates(&self, x: &Tensor) -> candle_core::Result<Vec<f64>> {
        let Some(estimator) = self.estimator else {
            candle_core::bail!("estimates need a model that makes them");
        };
        let logits = self.in_batches(x, estimator)?.to_vec1::<f32>()?;
        Ok(logits.into_iter().map(|logit| sigmoid(f64::from(logit))).collect())
    }
}

/// Draws the samples numbered 0 to `n` − 1: (n, 1, 32, 32), taken to [−1, 1] and clamped there. Their noise is that of
/// [`crate::sampling::draw`]. `progress` is told of each group's images as they are done, `observe` of every step of
/// every group.
///
/// # Errors
/// When the setting is impossible or needs an estimator that the model lacks, the model fails, an answer of it is not
/// finite, or the run was asked to stop.
pub fn draw_ddim(
    model: EpsModel,
    setting: &DdimSetting,
    streams: &Streams,
    n: usize,
    progress: &(dyn Fn(usize) + Sync),
    observe: &mut dyn FnMut(DdimStep) -> candle_core::Result<()>,
) -> Result<Tensor> {
    let network = |x: &Tensor, t: f64| model.noise(x, t);
    let estimate = |x: &Tensor| model.estimates(x);
    let estimator = setting.estimates.map(|estimates| (&estimate as Estimator, estimates));
    let mut groups = vec![];
    for range in ranges(n, GROUP) {
        let start = streams.normal_images("starting noise", range.clone(), &IMAGE, &model.batches.device)?;
        let mut noise = StepNoise::new(streams, range.clone());
        let noise = &mut |like: &Tensor| noise.next(like);
        let samples = ddim(network, &start, setting.steps, setting.options, estimator, noise, observe)?;
        groups.push(finished(&to_signed(&samples)?)?);
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
