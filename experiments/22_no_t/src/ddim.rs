//! DDIM as the notebook has it, in ᾱ coordinates: x_t = √ᾱ·x₀ + √(1−ᾱ)·ε on pixels x − ½, with estimates of the noise level; in fixed
//! groups of numbered images.

use anyhow::Result;
use candle_core::Tensor;
use elucidate_core::data::{IMAGE, PixelRange};
use elucidate_core::rng::Streams;
use elucidate_lab::evaluate::draw::{Batches, Described, Drawn, GROUP, finished, image_noise, ranges, watch};
use elucidate_report::SampleRow;
use elucidate_samplers::{NoiseSource, Setting};
use elucidate_schedules::{DdimSteps, NoiseSchedule, sigmoid};

/// ± this is where 22_cosine clamps x̂₀ in DDIM's steps, on pixels x − ½.
pub const X0_CLAMP: f64 = 1.5;

/// ± this is where the notebook clamps it with estimates of the noise level.
pub const X0_CLAMP_ESTIMATED: f64 = 2.0;

/// DDIM's options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ddim {
    /// How much fresh noise a step takes: 0 (none) to 1 (as much as DDPM, Ho 2020).
    pub eta: f64,
    /// x̂₀ is clamped to ± this at each step; infinite for no clamp.
    pub x0_clamp: f64,
}

/// What is done with the estimates ᾱ̂ of the noise level, where a model gives them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimates {
    /// A factor f where they are clamped to \[m/f, f·m\] around the images' median m; the notebook's is 2.
    pub near_median: Option<f64>,
    /// Where the fresh noise's σ comes from.
    pub sigma: SigmaRule,
}

/// Where the standard deviation σ of a step's fresh noise comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigmaRule {
    /// From the schedule's ᾱ, as without estimates.
    Schedule,
    /// From the estimates' median in place of ᾱ.
    Median,
    /// Half of the schedule's.
    Halved,
}

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
    /// The same without estimates, in σ coordinates on pixels of \[−1,1\]: what the table says of the rest.
    fn in_sigma(&self) -> Setting {
        let Ddim { eta, x0_clamp } = self.options;
        let ddim = elucidate_samplers::Ddim { eta, clamp: 2.0 * x0_clamp, floor: 0.01, scale: 0.5 };
        Setting { sampler: ddim.into(), sigma_steps: DdimSteps { steps: self.steps }.into() }
    }

    /// What was changed, as the column `variant` says it.
    fn variant(&self) -> Option<String> {
        let mut parts = vec![];
        if let Some(Estimates { near_median, sigma }) = self.estimates {
            parts.push("estimated".to_string());
            match near_median {
                Some(2.0) => {}
                Some(factor) => parts.push(format!("within {factor} of the median")),
                None => parts.push("not clamped".to_string()),
            }
            match sigma {
                SigmaRule::Schedule => {}
                SigmaRule::Median => parts.push("σ of the median".to_string()),
                SigmaRule::Halved => parts.push("σ halved".to_string()),
            }
        }
        let usual = self.estimates.map_or(X0_CLAMP, |_| X0_CLAMP_ESTIMATED);
        match self.options.x0_clamp {
            clamp if clamp == usual => {}
            f64::INFINITY => parts.push("x̂₀ not clamped".to_string()),
            clamp => parts.push(format!("x̂₀ within {clamp}")),
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl Described for DdimSetting {
    fn describe(&self, row: &mut SampleRow) {
        self.in_sigma().describe(row);
        // The floor and the scale are the lesson's throughout, and go without saying.
        let eta = if self.options.eta == 1.0 { String::new() } else { format!(" eta={}", self.options.eta) };
        row.label = Some(format!("ddim {}{eta}", self.steps));
        row.variant = self.variant();
    }

    fn file_name(&self) -> String {
        self.label().replace('σ', "sigma").replace("x̂₀", "x0").replace(',', "").replace(' ', "_")
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
        self.batches.map(x, |x, _| {
            let answer = (self.network)(x, &Tensor::full(t as f32, x.dim(0)?, x.device())?)?;
            watch(&answer, || format!("t {t}"))?;
            Ok(answer)
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
        let logits = self.batches.map(x, |x, _| estimator(x))?.to_vec1::<f32>()?;
        Ok(logits.into_iter().map(|logit| sigmoid(f64::from(logit))).collect())
    }
}

/// Draws the samples numbered 0 to `n` − 1: (n, 1, 32, 32), taken to [−1, 1] and clamped there. Their noise is that of
/// [`elucidate_lab::evaluate::draw::draw`]. `progress` is told of each group's images as they are done, `observe` of every step of
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
) -> Result<Drawn> {
    let network = |x: &Tensor, t: f64| model.noise(x, t);
    let estimate = |x: &Tensor| model.estimates(x);
    let mut groups = vec![];
    for range in ranges(n, GROUP) {
        let start = streams.normal_images("starting noise", range.clone(), &IMAGE, &model.batches.device)?;
        let mut noise = image_noise(streams, range.clone());
        let noise = &mut |like: &Tensor| noise.noise(like, 0.0, 0.0);
        let samples = ddim(network, &start, setting, &estimate, noise, observe)?;
        groups.push(finished(&to_signed(&samples)?)?);
        progress((range.end - range.start) as usize);
    }
    Ok(Drawn { images: Tensor::cat(&groups, 0)?, nfe: setting.steps })
}

/// Images of pixels x − ½ as those of 2x − 1.
///
/// # Errors
/// Those of the device.
pub fn to_signed(images: &Tensor) -> candle_core::Result<Tensor> {
    images * f64::from(PixelRange::SIGNED.scale / PixelRange::CENTRED.scale)
}

/// A model that estimates ᾱ of each image of x_t: (n, …) to n values in \[0,1\].
type Estimator<'a> = &'a dyn Fn(&Tensor) -> candle_core::Result<Vec<f64>>;

/// A step under way.
#[derive(Debug)]
pub struct DdimStep<'a> {
    /// Which, from 0.
    pub index: usize,
    /// The schedule's ᾱ, where the step begins.
    pub alpha_bar: f64,
    /// x_t, where the step begins.
    pub x: &'a Tensor,
    /// The estimates of each image's ᾱ as the model gave them; none where there is no estimator.
    pub estimates: &'a [f64],
    /// The clean images that the step expects, clamped.
    pub x0: &'a Tensor,
}

/// DDIM (Song 2020, eq. 12) over t evenly from 1 − 1/steps to 0 on the cosine schedule. `network`: x_t and its time t to ε̂;
/// `x`: standard normal noise (n, …). Where the setting has estimates, x̂₀ = (x_t − √(1−ᾱ̂)·ε̂)/√ᾱ̂ takes each image's own
/// estimate ᾱ̂ instead of the schedule's ᾱ; the median is that of the n images. Returns the last x̂₀. One evaluation a
/// step.
///
/// # Errors
/// When `eta` is not in \[0,1\], there are no steps, or a model or the noise fails.
fn ddim(
    network: impl Fn(&Tensor, f64) -> candle_core::Result<Tensor>,
    x: &Tensor,
    setting: &DdimSetting,
    estimator: Estimator,
    noise: &mut dyn FnMut(&Tensor) -> candle_core::Result<Tensor>,
    observe: &mut dyn FnMut(DdimStep) -> candle_core::Result<()>,
) -> candle_core::Result<Tensor> {
    let DdimSetting { steps, options, estimates } = *setting;
    if !(0.0..=1.0).contains(&options.eta) || steps == 0 {
        candle_core::bail!(
            "eta {} and {steps} steps: eta must be 0 to 1, and there must be a step",
            options.eta
        );
    }
    let mut x = x.clone();
    let mut x0 = x.clone();
    for (index, step) in ddim_alpha_bars(steps).windows(2).enumerate() {
        let (alpha_bar, next) = (step[0], step[1]);
        let eps = network(&x, 1.0 - (index + 1) as f64 / steps as f64)?;
        let mut sigma = ddim_sigma(alpha_bar, next, options.eta);
        let mut found = vec![];
        let mut alpha_bar_hat = vec![alpha_bar; x.dim(0)?];
        if let Some(rule) = estimates {
            found = estimator(&x)?;
            let median = median(&found);
            alpha_bar_hat.clone_from(&found);
            if let Some(factor) = rule.near_median {
                alpha_bar_hat.iter_mut().for_each(|a| *a = a.max(median / factor).min(median * factor));
            }
            sigma = match rule.sigma {
                SigmaRule::Schedule => sigma,
                SigmaRule::Median => ddim_sigma(median, next, options.eta),
                SigmaRule::Halved => sigma / 2.0,
            };
        }
        x0 = denoised(&x, &eps, &alpha_bar_hat)?;
        if options.x0_clamp.is_finite() {
            x0 = x0.clamp(-options.x0_clamp, options.x0_clamp)?;
        }
        observe(DdimStep { index, alpha_bar, x: &x, estimates: &found, x0: &x0 })?;
        // x′ = √ᾱ′·x̂₀ + √(1−ᾱ′−σ²)·ε̂ + σ·z
        let direction = (1.0 - next - sigma * sigma).max(0.0).sqrt();
        x = ((&x0 * next.sqrt())? + (eps * direction)?)?;
        if sigma > 0.0 {
            x = (&x + (noise(&x)? * sigma)?)?;
        }
    }
    Ok(x0)
}

/// The clean images that x_t and the noise in it mean: x̂₀ = (x_t − √(1−ᾱ)·ε̂)/√ᾱ, each image with its own ᾱ.
fn denoised(x: &Tensor, eps: &Tensor, alpha_bars: &[f64]) -> candle_core::Result<Tensor> {
    let column = |of: fn(f64) -> f64| -> candle_core::Result<Tensor> {
        let values: Vec<f64> = alpha_bars.iter().map(|&a| of(a)).collect();
        let mut shape = vec![1; x.rank()];
        shape[0] = values.len();
        Tensor::from_vec(values, shape, x.device())?.to_dtype(x.dtype())
    };
    (x - eps.broadcast_mul(&column(|a| (1.0 - a).sqrt())?)?)?.broadcast_div(&column(f64::sqrt)?)
}

/// The ᾱ of DDIM's `steps` steps, and where the last one ends: ᾱ(t) for t evenly from 1 − 1/steps down to 0, then 1. So
/// the last step begins and ends at 1, as the lesson has it.
fn ddim_alpha_bars(steps: usize) -> Vec<f64> {
    let schedule = NoiseSchedule::default();
    (0..steps).rev().map(|i| schedule.alpha_bar(i as f64 / steps as f64)).chain([1.0]).collect()
}

/// The standard deviation of the fresh noise in a DDIM step from ᾱ to ᾱ′ = `next` (Song 2020, eq. 16):
/// η·√((1−ᾱ′)/(1−ᾱ))·√(1−ᾱ/ᾱ′), and 0 where that leaves 1−ᾱ′ ≤ σ² + 0.01 or is not a number, as the lesson has it.
fn ddim_sigma(alpha_bar: f64, next: f64, eta: f64) -> f64 {
    let sigma = eta * ((1.0 - next) / (1.0 - alpha_bar)).sqrt() * (1.0 - alpha_bar / next).sqrt();
    if 1.0 - next > sigma * sigma + 0.01 { sigma } else { 0.0 }
}

/// The value in the middle; of an even number the lower of the two, as PyTorch has it.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    const STEPS: usize = 20;
    const DETERMINISTIC: Ddim = Ddim { eta: 0.0, x0_clamp: f64::INFINITY };

    /// ε̂ of the exact denoiser for pixels N(0.1, 0.3²) at time t, each pixel by itself.
    fn exact_eps(x: &Tensor, t: f64) -> candle_core::Result<Tensor> {
        let (mean, std) = (0.1, 0.3f64);
        let a = NoiseSchedule::default().alpha_bar(t);
        let (signal, noise) = (a.sqrt(), (1.0 - a).sqrt());
        let total = (signal * std).powi(2) + noise.powi(2);
        (x - signal * mean)? * (noise / total)
    }

    fn start() -> candle_core::Result<Tensor> {
        Tensor::new(&[[0.5f64, -1.0, 2.0], [0.1, 1.5, -0.3], [0.0, -2.0, 0.7]], &Device::Cpu)
    }

    fn none(_: &Tensor) -> candle_core::Result<Vec<f64>> {
        candle_core::bail!("a setting without estimates asks for them")
    }

    fn no_noise(_: &Tensor) -> candle_core::Result<Tensor> {
        candle_core::bail!("a deterministic sampler asks for noise")
    }

    fn run(
        options: Ddim,
        estimator: Option<(Estimator, Estimates)>,
        noise: &mut dyn FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Vec<f64>> {
        let setting = DdimSetting { steps: STEPS, options, estimates: estimator.map(|e| e.1) };
        let estimator = estimator.map_or(&none as Estimator, |e| e.0);
        ddim(exact_eps, &start()?, &setting, estimator, noise, &mut |_| Ok(()))?.flatten_all()?.to_vec1()
    }

    fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn estimates_that_are_the_schedules_change_nothing() -> candle_core::Result<()> {
        let steps = ddim_alpha_bars(STEPS);
        let asked = std::cell::Cell::new(0);
        let estimate = |x: &Tensor| {
            asked.set(asked.get() + 1);
            Ok(vec![steps[asked.get() - 1]; x.dim(0)?])
        };
        for rule in [SigmaRule::Schedule, SigmaRule::Median, SigmaRule::Halved] {
            asked.set(0);
            let estimates = Estimates { near_median: Some(2.0), sigma: rule };
            let found = run(DETERMINISTIC, Some((&estimate, estimates)), &mut no_noise)?;
            assert_eq!(found, run(DETERMINISTIC, None, &mut no_noise)?);
        }
        Ok(())
    }

    #[test]
    fn an_estimate_far_from_the_median_is_brought_near() -> candle_core::Result<()> {
        // One step from ᾱ(½) = ½: x̂₀ of an image tells which ᾱ̂ it was made with.
        let x0 = |found: [f64; 3], near_median| -> candle_core::Result<Vec<f64>> {
            let estimate = |_: &Tensor| Ok(found.to_vec());
            let estimates = Estimates { near_median, sigma: SigmaRule::Schedule };
            let mut first = vec![];
            let mut observe = |step: DdimStep| {
                if step.index == 0 {
                    assert_eq!(step.estimates, found);
                    first = step.x0.flatten_all()?.to_vec1::<f64>()?;
                }
                Ok(())
            };
            let x = Tensor::ones((3, 1), DType::F64, &Device::Cpu)?;
            let zero = |x: &Tensor, _: f64| x.zeros_like();
            let setting = DdimSetting { steps: 2, options: DETERMINISTIC, estimates: Some(estimates) };
            ddim(zero, &x, &setting, &estimate, &mut no_noise, &mut observe)?;
            Ok(first)
        };
        // x̂₀ = x_t/√ᾱ̂ where the network predicts no noise; the median is 0.4.
        let expected = |used: [f64; 3]| used.map(|a| 1.0 / a.sqrt());
        assert!(largest_difference(&x0([0.01, 0.4, 0.9], Some(2.0))?, &expected([0.2, 0.4, 0.8])) < 1e-12);
        assert!(largest_difference(&x0([0.01, 0.4, 0.9], None)?, &expected([0.01, 0.4, 0.9])) < 1e-12);
        Ok(())
    }

    #[test]
    fn the_clean_image_is_clamped_before_the_step_goes_on() -> candle_core::Result<()> {
        // No noise is predicted, so x̂₀ = x_t/√ᾱ = 0.5/√½ = 0.71 in the first step, and the second begins at x̂₀ itself.
        let x0 = |x0_clamp: f64| -> candle_core::Result<(f64, f64)> {
            let mut seen = vec![];
            let mut observe = |step: DdimStep| {
                seen.push((step.x.to_vec2::<f64>()?[0][0], step.x0.to_vec2::<f64>()?[0][0]));
                Ok(())
            };
            let x = (Tensor::ones((1, 1), DType::F64, &Device::Cpu)? * 0.5)?;
            let options = Ddim { eta: 0.0, x0_clamp };
            let setting = DdimSetting { steps: 2, options, estimates: None };
            ddim(|x: &Tensor, _: f64| x.zeros_like(), &x, &setting, &none, &mut no_noise, &mut observe)?;
            Ok((seen[0].1, seen[1].0))
        };
        for (clamp, expected) in [(0.6, 0.6), (1.5, 0.5f64.sqrt()), (f64::INFINITY, 0.5f64.sqrt())] {
            let (first, next) = x0(clamp)?;
            assert!(
                (first - expected).abs() < 1e-12 && (next - expected).abs() < 1e-12,
                "{clamp}: {first}, {next}"
            );
        }
        Ok(())
    }

    #[test]
    fn what_was_changed_is_said_and_nothing_else() {
        let estimated = |near_median, sigma| Some(Estimates { near_median, sigma });
        let cases = [
            (X0_CLAMP, None, "ddim 100"),
            (f64::INFINITY, None, "ddim 100, x̂₀ not clamped"),
            (0.5, None, "ddim 100, x̂₀ within 0.5"),
            (X0_CLAMP_ESTIMATED, estimated(Some(2.0), SigmaRule::Schedule), "ddim 100, estimated"),
            (
                0.5,
                estimated(None, SigmaRule::Median),
                "ddim 100, estimated, not clamped, σ of the median, x̂₀ within 0.5",
            ),
            (
                2.0,
                estimated(Some(1.1), SigmaRule::Halved),
                "ddim 100, estimated, within 1.1 of the median, σ halved",
            ),
        ];
        for (x0_clamp, estimates, label) in cases {
            let setting = DdimSetting { steps: 100, options: Ddim { eta: 1.0, x0_clamp }, estimates };
            assert_eq!(setting.label(), label);
            assert!(setting.file_name().is_ascii(), "{}", setting.file_name());
        }
    }

    #[test]
    fn fresh_noise_has_the_rules_standard_deviation() -> candle_core::Result<()> {
        // The noise that is asked for is all ones, so a step's x′ without the rest is σ itself.
        let first_sigma = |rule: Option<SigmaRule>| -> candle_core::Result<f64> {
            let estimate = |x: &Tensor| Ok(vec![0.3; x.dim(0)?]);
            let mut xs = vec![];
            let mut observe = |step: DdimStep| {
                xs.push(step.x.flatten_all()?.to_vec1::<f64>()?[0]);
                Ok(())
            };
            let x = Tensor::zeros((1, 1), DType::F64, &Device::Cpu)?;
            let zero = |x: &Tensor, _: f64| x.zeros_like();
            let options = Ddim { eta: 1.0, x0_clamp: 2.0 };
            let rule = rule.map(|sigma| Estimates { near_median: Some(2.0), sigma });
            let setting = DdimSetting { steps: 4, options, estimates: rule };
            ddim(zero, &x, &setting, &estimate, &mut |x| x.ones_like(), &mut observe)?;
            Ok(xs[1])
        };
        let schedule = NoiseSchedule::default();
        let (from, to) = (schedule.alpha_bar(0.75), schedule.alpha_bar(0.5));
        let expected = ddim_sigma(from, to, 1.0);
        for (rule, expected) in [
            (None, expected),
            (Some(SigmaRule::Schedule), expected),
            (Some(SigmaRule::Halved), expected / 2.0),
            (Some(SigmaRule::Median), ddim_sigma(0.3, to, 1.0)),
        ] {
            let found = first_sigma(rule)?;
            assert!((found - expected).abs() < 1e-12, "{rule:?}: {found} is not {expected}");
        }
        Ok(())
    }

    #[test]
    fn impossible_options_are_refused() {
        for eta in [-0.1, 1.1, f64::NAN] {
            assert!(run(Ddim { eta, x0_clamp: 2.0 }, None, &mut no_noise).is_err(), "{eta}");
        }
    }

    #[test]
    fn ddim_steps_end_in_one_twice() {
        let schedule = NoiseSchedule::default();
        let expected =
            [schedule.alpha_bar(0.75), schedule.alpha_bar(0.5), schedule.alpha_bar(0.25), 1.0, 1.0];
        assert_eq!(ddim_alpha_bars(4), expected);
    }

    #[test]
    fn the_fresh_noise_of_eta_one_is_the_posteriors() {
        // Ho 2020, eq. 7: β̃ = (1−ᾱ′)/(1−ᾱ)·β with β = 1 − ᾱ/ᾱ′.
        let (alpha_bar, next) = (0.3, 0.5);
        let expected: f64 = 0.5 / 0.7 * (1.0 - 0.3 / 0.5);
        assert!((ddim_sigma(alpha_bar, next, 1.0).powi(2) - expected).abs() < 1e-12);
        // 1 − ᾱ′ = 0.005 is below the lesson's 0.01; 0/0; an estimate beyond the step's end.
        for (alpha_bar, next) in [(0.99, 0.995), (1.0, 1.0), (0.9, 0.5)] {
            assert_eq!(ddim_sigma(alpha_bar, next, 1.0), 0.0);
        }
    }

    #[test]
    fn the_median_is_the_lower_middle_value() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
