//! Charts that more than one experiment draws, and what charts are made from.

use crate::run::Run;
use anyhow::Result;
use candle_core::{DType, Tensor};
use elucidate_report::{Series, save_curves};
use elucidate_samplers::{Levels, Setting};
use elucidate_schedules::Preconditioning;

/// The value below which `share` of `values`, which must not be empty, lie: the nearest of them.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Mean and standard deviation of all numbers of a tensor.
///
/// # Errors
/// Those of the device.
pub fn mean_and_std(tensor: &Tensor) -> Result<(f64, f64)> {
    let values = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    Ok((mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()))
}

/// The σ steps of each setting, of settings with the same steps once.
///
/// # Errors
/// When they are impossible, or a file cannot be written.
pub fn sampling_sigmas(run: &Run, model: &Preconditioning, settings: &[Setting]) -> Result<()> {
    let mut drawn: Vec<Vec<f64>> = vec![];
    let mut series = vec![];
    for setting in settings {
        let sigmas = setting.sigmas(model)?;
        if setting.sampler.levels() == Levels::Range || sigmas.len() < 3 || drawn.contains(&sigmas) {
            continue;
        }
        let above_zero = &sigmas[..sigmas.len() - 1];
        let points = above_zero.iter().enumerate().map(|(i, &s)| (i as f64, s)).collect();
        series.push(Series::line(setting.levels_label(), points));
        drawn.push(sigmas);
    }
    if series.is_empty() {
        return Ok(());
    }
    save_curves(run.folder.root(), "sampling_sigma", &series)
}
