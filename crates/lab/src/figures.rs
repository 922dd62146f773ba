//! Charts that more than one experiment draws, and the numbers of charts as CSV.

use crate::run::Run;
use crate::sampling::Setting;
use anyhow::Result;
use elucidate_report::{Bar, BarChart, LineChart, SampleRow, Scale, Series, write_csv};
use serde::Serialize;

#[derive(Serialize)]
struct Curve {
    series: String,
    x: f64,
    y: f64,
}

/// Writes the numbers of a chart's lines to NAME.csv: a row for each point.
///
/// # Errors
/// When the file cannot be written.
pub fn save_curves(run: &Run, name: &str, series: &[Series]) -> Result<()> {
    let rows = |s: &Series| {
        s.points.iter().map(|&(x, y)| Curve { series: s.name.clone(), x, y }).collect::<Vec<_>>()
    };
    let rows: Vec<Curve> = series.iter().flat_map(rows).collect();
    write_csv(&run.folder.path(format!("{name}.csv")), &rows)
}

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
        series.push(Series { name: format!("{} steps, ρ {}", setting.steps, setting.rho), points });
    }
    if series.is_empty() {
        return Ok(());
    }
    save_curves(run, "sampling_sigma", &series)?;
    let title = "Noise levels of sampling";
    let chart = LineChart { y_scale: Scale::Log, ..LineChart::new(title, "step", "σ", series) };
    chart.save(&run.folder.path("sampling_sigma.png"))
}

/// FID of every sampler and yardstick; the floor as a line.
///
/// # Errors
/// When the file cannot be written.
pub fn fid_by_sampler(run: &Run, rows: &[SampleRow]) -> Result<()> {
    let floor = rows.iter().find(|row| row.sampler == "real").map(|row| row.fid);
    let bars = rows.iter().filter(|row| row.sampler != "real").map(bar).collect();
    let chart = BarChart {
        title: format!("FID by sampler, {} samples each", run.settings.samples),
        value_label: "FID against the test images (lower is better)".into(),
        bars,
        reference: floor.map(|fid| ("real images".to_string(), fid)),
    };
    chart.save(&run.folder.path("fid_by_sampler.png"))
}

fn bar(row: &SampleRow) -> Bar {
    let label = match (row.sampler.as_str(), row.steps) {
        ("real_blur_0.5", _) => "real, blurred by 0.5 pixels".to_string(),
        (name, _) if name.starts_with("real_noise_") => {
            format!("real + noise {}", &name["real_noise_".len()..])
        }
        (name, Some(steps)) => match (row.eta, row.s_churn) {
            (Some(eta), _) => format!("{name} {steps}, η {eta}"),
            (_, Some(churn)) if churn > 0.0 => format!("{name} {steps}, churn {churn}"),
            _ => format!("{name} {steps}"),
        },
        (name, None) => name.to_string(),
    };
    let label = match &row.variant {
        Some(variant) => format!("{label}, {variant}"),
        None => label,
    };
    Bar { label, value: row.fid, note: row.nfe.map_or_else(String::new, |nfe| format!("{nfe} evaluations")) }
}
