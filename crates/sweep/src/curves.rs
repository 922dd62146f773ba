//! Charts of the curves that runs have a CSV of: the mean over seeds.

use crate::charts::{WHISKERS, word};
use crate::description::{Curves, PlannedRun, Sweep};
use anyhow::{Context, Result, ensure};
use elucidate_report::{
    Chart as _, Estimate, LineChart, Scale, Series, curves_chart, read_curves, write_curves,
};
use std::path::PathBuf;

/// The curves of the runs of one line.
struct Line {
    name: String,
    curves: Vec<Vec<(f64, f64)>>,
}

/// Draws `curves` of the `finished` runs into the sweep's folder, with the numbers as a CSV beside the chart, and returns its file; none while
/// the line that the others are compared with, or all others, are missing. Each line is the mean over its runs. Its interval is Student's t
/// of the scatter within all lines together, relative to their means, at each x.
///
/// # Errors
/// When a run lacks the CSV or the series, when curves differ in their x, or when a file cannot be written.
pub fn draw(sweep: &Sweep, finished: &[&PlannedRun], curves: &Curves) -> Result<Option<PathBuf>> {
    let mut lines: Vec<Line> = vec![];
    for run in finished {
        let (name, curve) = (curves.line(sweep, run), curve(sweep, run, curves)?);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.curves.push(curve),
            None => lines.push(Line { name, curves: vec![curve] }),
        }
    }
    let xs = same_x(&lines)?;
    let mut by_x: Vec<Vec<Estimate>> = (0..xs.len()).map(|i| means(&lines, i)).collect();
    if let Some(against) = &curves.against {
        let Some(base) = lines.iter().position(|line| line.name == *against) else { return Ok(None) };
        by_x.iter_mut().for_each(|estimates| *estimates = ratios(estimates, base));
        lines.remove(base);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let series = |(k, line): (usize, &Line)| {
        let points: Vec<_> = xs.iter().copied().zip(by_x.iter().map(|estimates| estimates[k])).collect();
        Series::of_estimates(&line.name, &points)
    };
    let series: Vec<Series> = lines.iter().enumerate().map(series).collect();
    let path = sweep.out.join(format!("{}.png", curves.file_stem()));
    chart(curves, series.clone()).save_both(&path)?;
    write_curves(&path.with_extension("csv"), &series)?;
    Ok(Some(path))
}

fn curve(sweep: &Sweep, run: &PlannedRun, curves: &Curves) -> Result<Vec<(f64, f64)>> {
    let path = sweep.folder(run).join(format!("{}.csv", curves.csv));
    let mut series = read_curves(&path)?;
    let names: Vec<String> = series.iter().map(|series| series.name.clone()).collect();
    if let Some(name) = &curves.series {
        series.retain(|series| series.name == *name);
    }
    ensure!(
        series.len() == 1,
        "{}: let `series` name one of its lines: {}",
        path.display(),
        names.join(", ")
    );
    Ok(series.swap_remove(0).points)
}

/// The x that all curves have.
fn same_x(lines: &[Line]) -> Result<Vec<f64>> {
    let all: Vec<&Vec<(f64, f64)>> = lines.iter().flat_map(|line| &line.curves).collect();
    let xs: Vec<f64> = all.first().context("no run is finished")?.iter().map(|point| point.0).collect();
    let same = all.iter().all(|curve| curve.iter().map(|point| point.0).eq(xs.iter().copied()));
    ensure!(same, "the runs' curves differ in their x, as those of schedules that end elsewhere");
    Ok(xs)
}

/// The mean of each line at x number `i`.
fn means(lines: &[Line], i: usize) -> Vec<Estimate> {
    let values = |line: &Line| -> Vec<f64> { line.curves.iter().map(|curve| curve[i].1).collect() };
    let values: Vec<Vec<f64>> = lines.iter().map(values).collect();
    let means: Vec<f64> = values.iter().map(|values| Estimate::of(values).mean).collect();
    let relative = |(values, mean): (&Vec<f64>, &f64)| values.iter().map(|value| value / mean).collect();
    let scatter = Estimate::of_groups(&values.iter().zip(&means).map(relative).collect::<Vec<_>>());
    let estimate = |(mean, scatter): (f64, Estimate)| Estimate {
        mean,
        error: scatter.error.map(|(error, freedom)| (error * mean.abs(), freedom)),
    };
    means.into_iter().zip(scatter).map(estimate).collect()
}

/// Every estimate but number `base` as a multiple of that one. The same seeds make both alike, if anything: then the errors are too wide.
fn ratios(estimates: &[Estimate], base: usize) -> Vec<Estimate> {
    let below = estimates[base];
    let ratio = |estimate: &Estimate| {
        let mean = estimate.mean / below.mean;
        let error = estimate.error.zip(below.error).map(|((ours, freedom), (theirs, _))| {
            (mean.abs() * (ours / estimate.mean).hypot(theirs / below.mean), freedom)
        });
        Estimate { mean, error }
    };
    let others = estimates.iter().enumerate().filter(|(k, _)| *k != base);
    others.map(|(_, estimate)| ratio(estimate)).collect()
}

/// As the run's own chart has it, where there is one.
fn chart(curves: &Curves, series: Vec<Series>) -> LineChart {
    let name = word(&curves.csv);
    let mut chart = curves_chart(&curves.csv, series.clone())
        .unwrap_or_else(|| LineChart::new(&name, "x", &name, series));
    let lines: Vec<String> = curves.lines.iter().map(|name| word(name)).collect();
    chart.title += &format!(", by {}", lines.join(", "));
    chart.x_label += WHISKERS;
    if let Some(against) = &curves.against {
        chart.y_label = match chart.series.as_slice() {
            // A single line has no legend.
            [only] => format!("{}, relative to {against}", only.name),
            _ => format!("relative to {against}"),
        };
        chart.y_scale = Scale::Linear;
    }
    chart
}
