//! How well the noise level is read: errors, charts, and images with what was read off them.

use crate::data::{DRAWS, NoisedData, Target};
use anyhow::Result;
use elucidate_lab::evaluate::figures::quantile;
use elucidate_lab::evaluate::pictures::{COLUMNS, pictures};
use elucidate_lab::run::Run;
use elucidate_lab::train::noise_level::NoiseLevelModel;
use elucidate_report::{Estimate, Series, picture_grid, save_curves};
use elucidate_schedules::logit;
use serde::Serialize;

/// What a network said of the test images.
pub struct Predictions {
    target: Target,
    /// True and predicted ᾱ, as [`NoisedData::answers`] has them.
    pairs: Vec<(f64, f64)>,
}

/// A row of errors.csv: one network over the test images.
#[derive(Debug, Clone, Serialize)]
pub struct Errors {
    pub trained_on: &'static str,
    pub seed: u64,
    /// Test images.
    pub n: usize,
    /// Noise levels at which each was read.
    pub draws: usize,
    pub mse_logit: f64,
    /// What other test images and noise would change it by.
    pub mse_logit_std_err: f64,
    pub rmse_logit: f64,
    pub rmse_alpha_bar: f64,
}

impl Predictions {
    pub fn of(data: &NoisedData, model: &NoiseLevelModel, target: Target) -> Result<Self> {
        let answers = data.answers(model)?.into_iter();
        Ok(Self { target, pairs: answers.map(|(truth, answer)| (truth, target.alpha_bar(answer))).collect() })
    }

    /// Mean squared error on logit ᾱ.
    pub fn mse_logit(&self) -> Estimate {
        let n = self.pairs.len() / DRAWS;
        let square = |(truth, found): (f64, f64)| (logit(found) - logit(truth)).powi(2);
        // The draws of an image are no images of their own.
        let of_image =
            |image| (0..DRAWS).map(|draw| square(self.pairs[draw * n + image])).sum::<f64>() / DRAWS as f64;
        Estimate::of(&(0..n).map(of_image).collect::<Vec<_>>())
    }

    /// Root mean squared error on ᾱ.
    pub fn rmse_alpha_bar(&self) -> f64 {
        mean_square(self.pairs.iter().map(|&(truth, found)| found - truth)).sqrt()
    }

    pub fn errors(&self, run: &Run) -> Errors {
        let mse_logit = self.mse_logit();
        Errors {
            trained_on: self.target.name(),
            seed: run.settings.seed,
            n: self.pairs.len() / DRAWS,
            draws: DRAWS,
            mse_logit: mse_logit.mean,
            mse_logit_std_err: mse_logit.error.map_or(f64::NAN, |error| error.0),
            rmse_logit: mse_logit.mean.sqrt(),
            rmse_alpha_bar: self.rmse_alpha_bar(),
        }
    }

    /// A figure of the pairs in each of `bins` equal parts of \[`from`, `to`\] of `place` of the true ᾱ: at the part's
    /// middle. Parts without images are left out.
    fn binned(
        &self,
        (from, to, bins): (f64, f64, usize),
        place: fn(f64) -> f64,
        figure: impl Fn(&[(f64, f64)]) -> f64,
    ) -> Vec<(f64, f64)> {
        let width = (to - from) / bins as f64;
        let point = |bin: usize| {
            let within: Vec<_> = self
                .pairs
                .iter()
                .copied()
                .filter(|&(truth, _)| ((place(truth) - from) / width).floor() == bin as f64)
                .collect();
            (!within.is_empty()).then(|| (from + (bin as f64 + 0.5) * width, figure(&within)))
        };
        (0..bins).filter_map(point).collect()
    }
}

fn mean_square(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.map(|value| value * value).sum::<f64>() / n
}

/// Predicted ᾱ against true: the median and the middle nine tenths, in twentieths of true ᾱ; a chart for each network.
pub fn predicted_by_true(run: &Run, predictions: &[Predictions]) -> Result<()> {
    for p in predictions {
        let quantiles = |(name, share): (&str, f64)| {
            let of_found = |pairs: &[(f64, f64)]| {
                let found: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
                quantile(&found, share)
            };
            Series::line(name, p.binned((0.0, 1.0, 20), |a| a, of_found))
        };
        let mut series = vec![Series::line("as it should be", vec![(0.0, 0.0), (1.0, 1.0)])];
        series.extend([("5 %", 0.05), ("median", 0.5), ("95 %", 0.95)].map(quantiles));
        let name = match p.target {
            Target::Logit => "predicted_by_true",
            Target::AlphaBar => "predicted_by_true_alpha_bar",
        };
        save_curves(run.folder.root(), name, &series)?;
    }
    Ok(())
}

/// Root mean squared error on logit ᾱ by the true logit ᾱ.
pub fn error_by_logit(run: &Run, predictions: &[Predictions]) -> Result<()> {
    let rmse = |pairs: &[(f64, f64)]| {
        mean_square(pairs.iter().map(|&(truth, found)| logit(found) - logit(truth))).sqrt()
    };
    let line = |p: &Predictions| {
        Series::line(format!("trained on {}", p.target.name()), p.binned((-6.0, 6.0, 24), logit, rmse))
    };
    let series: Vec<Series> = predictions.iter().map(line).collect();
    save_curves(run.folder.root(), "error_by_logit", &series)
}

/// Noised test images, titled with predicted and true ᾱ.
pub fn titled(run: &Run, data: &NoisedData, model: &NoiseLevelModel) -> Result<()> {
    let indices: Vec<usize> = (0..(4 * COLUMNS).min(run.settings.scoring.test_images)).collect();
    let (x, alpha_bars) = data.noised_test(&indices)?;
    let answers = model.forward(&x)?.to_vec1::<f32>()?;
    let titles: Vec<String> = answers
        .iter()
        .zip(&alpha_bars)
        .map(|(&answer, truth)| format!("{:.2}|{truth:.2}", Target::Logit.alpha_bar(f64::from(answer))))
        .collect();
    let path = run.folder.path("predicted_and_true_alpha_bar.png");
    picture_grid(&path, &pictures(&x, indices.len(), (-1.0, 1.0))?, COLUMNS, &titles)
}
