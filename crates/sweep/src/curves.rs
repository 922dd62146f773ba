//! Charts of the curves that runs have a CSV of: the mean over runs that differ in nothing but what is averaged.

use crate::description::{Curves, PlannedRun, Sweep};
use anyhow::{Context, Result, ensure};
use elucidate_report::{
    Chart as _, Estimate, LineChart, Scale, Series, curves_chart, read_curves, write_curves,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A run's curve.
struct Curve {
    /// Its values on the axes that make lines.
    line: String,
    /// Its values on the others: what is averaged over.
    rest: Vec<String>,
    points: Vec<(f64, f64)>,
}

/// Draws `curves` of the `finished` runs into the sweep's folder, with the numbers as a CSV beside the chart, and returns its file. Each line is
/// the mean over its runs, with the interval that Student's t gives the scatter within all lines together at each x.
///
/// # Errors
/// When a run lacks the CSV or the series, when curves differ in their x, when no line has the values of `against`, or when a file
/// cannot be written.
pub fn draw(sweep: &Sweep, finished: &[&PlannedRun], curves: &Curves) -> Result<PathBuf> {
    let mut all: Vec<Curve> = finished.iter().map(|run| curve(sweep, run, curves)).collect::<Result<_>>()?;
    if let Some(against) = &curves.against {
        all = ratios(&all, against)?;
    }
    let path = sweep.out.join(format!("{}.png", curves.file_stem()));
    let series = means(&all)?;
    write_curves(&path.with_extension("csv"), &series)?;
    chart(curves, series).save_both(&path)?;
    Ok(path)
}

fn curve(sweep: &Sweep, run: &PlannedRun, curves: &Curves) -> Result<Curve> {
    let path = sweep.folder(run).join(format!("{}.csv", curves.csv));
    let mut series = read_curves(&path)?;
    if let Some(name) = &curves.series {
        series.retain(|series| series.name == *name);
    }
    ensure!(series.len() == 1, "{} has {} such lines: let `series` name one", path.display(), series.len());
    let is_line = |axis: &String| curves.lines.iter().any(|line| line.replace('_', "-") == *axis);
    let values = sweep.axes.iter().zip(&run.values);
    let (line, rest): (Vec<_>, Vec<_>) = values.partition(|(axis, _)| is_line(axis));
    let text = |values: Vec<(&String, &String)>| values.into_iter().map(|(_, value)| value.clone()).collect();
    let line: Vec<String> = text(line);
    Ok(Curve { line: line.join(", "), rest: text(rest), points: series.swap_remove(0).points })
}

/// Every curve as multiples of that of the line `against` with the same values on the other axes; curves without such a one are left out.
fn ratios(all: &[Curve], against: &str) -> Result<Vec<Curve>> {
    let bases: BTreeMap<&[String], &Curve> = all
        .iter()
        .filter(|curve| curve.line == against)
        .map(|curve| (curve.rest.as_slice(), curve))
        .collect();
    ensure!(!bases.is_empty(), "no finished run is of the line {against:?}, which `against` names");
    let ratio = |curve: &Curve| {
        let base = bases.get(curve.rest.as_slice())?;
        let points = curve.points.iter().zip(&base.points).map(|((x, y), (_, base))| (*x, y / base));
        Some(Curve { line: curve.line.clone(), rest: curve.rest.clone(), points: points.collect() })
    };
    Ok(all.iter().filter(|curve| curve.line != against).filter_map(ratio).collect())
}

/// The mean of each line, in the order of the runs.
fn means(all: &[Curve]) -> Result<Vec<Series>> {
    let xs: Vec<f64> =
        all.first().context("no run has such a curve")?.points.iter().map(|point| point.0).collect();
    let same_x = all.iter().all(|curve| curve.points.iter().map(|point| point.0).eq(xs.iter().copied()));
    ensure!(same_x, "the runs' curves differ in their x");
    let mut lines: Vec<(&str, Vec<&Curve>)> = vec![];
    for curve in all {
        match lines.iter_mut().find(|(line, _)| *line == curve.line) {
            Some((_, curves)) => curves.push(curve),
            None => lines.push((&curve.line, vec![curve])),
        }
    }
    let at = |i: usize| {
        let values =
            |(_, curves): &(&str, Vec<&Curve>)| curves.iter().map(|curve| curve.points[i].1).collect();
        Estimate::of_groups(&lines.iter().map(values).collect::<Vec<_>>())
    };
    let by_x: Vec<Vec<Estimate>> = (0..xs.len()).map(at).collect();
    let series = |(k, (name, _)): (usize, &(&str, Vec<&Curve>))| {
        let points = xs.iter().zip(&by_x).map(|(x, estimates)| (*x, estimates[k].mean)).collect();
        let half_widths =
            by_x.iter().map(|estimates| estimates[k].half_width().unwrap_or(f64::NAN)).collect();
        Series::with_half_widths(*name, points, half_widths)
    };
    Ok(lines.iter().enumerate().map(series).collect())
}

/// As the run's own chart has it, where there is one.
fn chart(curves: &Curves, series: Vec<Series>) -> LineChart {
    let name = curves.csv.replace('_', " ");
    let mut chart = curves_chart(&curves.csv, series.clone())
        .unwrap_or_else(|| LineChart::new(&name, "x", &name, series));
    chart.title += &format!(", by {}", curves.lines.join(", "));
    if let Some(against) = &curves.against {
        chart.y_label = match chart.series.as_slice() {
            // A single line has no legend.
            [only] => format!("that of {}, as a multiple of that of {against}", only.name),
            _ => format!("as a multiple of that of {against}"),
        };
        chart.y_scale = Scale::Linear;
    }
    chart
}
