//! Charts that more than one experiment draws, and what charts are made from.

use crate::run::Run;
use crate::sampling::Setting;
use anyhow::Result;
use elucidate_report::{Series, save_curves};

/// The value below which `share` of `values`, which must not be empty, lie: the nearest of them.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// The σ steps of each setting.
///
/// # Errors
/// When they are impossible, or a file cannot be written.
pub fn sampling_sigmas(run: &Run, settings: &[Setting]) -> Result<()> {
    let mut lengths: Vec<usize> = vec![];
    let mut series = vec![];
    for setting in settings.iter().filter(|s| s.steps > 1) {
        if lengths.contains(&setting.steps) {
            continue;
        }
        lengths.push(setting.steps);
        let sigmas = setting.sigmas()?;
        let points = sigmas[..setting.steps].iter().enumerate().map(|(i, &s)| (i as f64, s)).collect();
        series.push(Series::line(format!("{} steps, ρ {}", setting.steps, setting.rho), points));
    }
    if series.is_empty() {
        return Ok(());
    }
    save_curves(run.folder.root(), "sampling_sigma", &series)
}
