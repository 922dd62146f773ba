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
/// of the scatter within all lines together, relative to their means, at each x. Curves of other x, as those of schedules that end
/// elsewhere, are taken at the first one's, along straight lines between their points on the chart's axes, as far as all of them go.
///
/// # Errors
/// When a run lacks the CSV or the series, when curves have no x in common, or when a file cannot be written.
pub fn draw(sweep: &Sweep, finished: &[&PlannedRun], curves: &Curves) -> Result<Option<PathBuf>> {
    let mut lines: Vec<Line> = vec![];
    for run in finished {
        let (name, curve) = (curves.line(sweep, run), curve(sweep, run, curves)?);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.curves.push(curve),
            None => lines.push(Line { name, curves: vec![curve] }),
        }
    }
    let xs = common_x(&mut lines, &runs_chart(curves, vec![]))?;
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

/// The x of the first curve that all of them reach, at which `lines` then have their points.
fn common_x(lines: &mut [Line], axes: &LineChart) -> Result<Vec<f64>> {
    let mut curves: Vec<&mut Vec<(f64, f64)>> = lines.iter_mut().flat_map(|line| &mut line.curves).collect();
    let is_reached = |x: f64| {
        let ends = |curve: &&mut Vec<(f64, f64)>| Some((curve.first()?.0, curve.last()?.0));
        curves.iter().all(|curve| ends(curve).is_some_and(|(start, end)| start <= x && x <= end))
    };
    let first = curves.first().context("no run is finished")?;
    let xs: Vec<f64> = first.iter().map(|point| point.0).filter(|&x| is_reached(x)).collect();
    ensure!(!xs.is_empty(), "the runs' curves have no x in common");
    for curve in &mut curves {
        **curve = xs.iter().map(|&x| (x, at(curve, x, axes))).collect();
    }
    Ok(xs)
}

/// `curve` at `x`, which it reaches, by a straight line on the chart's `axes`.
fn at(curve: &[(f64, f64)], x: f64, axes: &LineChart) -> f64 {
    let k = curve.partition_point(|point| point.0 < x);
    let (end, start) = (curve[k], curve[k.saturating_sub(1)]);
    if end.0 == x {
        return end.1;
    }
    let on = |scale: Scale, value: f64| if scale == Scale::Log { value.ln() } else { value };
    let place = |point: (f64, f64)| (on(axes.x_scale, point.0), on(axes.y_scale, point.1));
    let ((x0, y0), (x1, y1)) = (place(start), place(end));
    let y = y0 + (y1 - y0) * (on(axes.x_scale, x) - x0) / (x1 - x0);
    if axes.y_scale == Scale::Log { y.exp() } else { y }
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
fn runs_chart(curves: &Curves, series: Vec<Series>) -> LineChart {
    let name = word(&curves.csv);
    curves_chart(&curves.csv, series.clone()).unwrap_or_else(|| LineChart::new(&name, "x", &name, series))
}

fn chart(curves: &Curves, series: Vec<Series>) -> LineChart {
    let mut chart = runs_chart(curves, series);
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

#[cfg(test)]
mod tests {
    use super::{Line, common_x};
    use elucidate_report::{LineChart, Scale};

    fn curve(xs: &[f64], y: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        xs.iter().map(|&x| (x, y(x))).collect()
    }

    #[test]
    fn curves_of_other_x_are_compared_at_the_first_ones() -> anyhow::Result<()> {
        let of = |curve| Line { name: String::new(), curves: vec![curve] };
        let first = [0.5, 1.0, 3.0, 8.0, 20.0];
        // A power is straight on two logarithmic axes, a line on two linear ones.
        let log =
            LineChart { x_scale: Scale::Log, y_scale: Scale::Log, ..LineChart::new("", "", "", vec![]) };
        let linear = LineChart::new("", "", "", vec![]);
        let cubed: fn(f64) -> f64 = |x| 2.0 * x.powi(3);
        for (axes, y) in [(log, cubed), (linear, |x| 7.0 - 2.0 * x)] {
            let mut lines = [of(curve(&first, y)), of(curve(&[0.9, 2.0, 8.0], y))];
            assert_eq!(common_x(&mut lines, &axes)?, [1.0, 3.0, 8.0]);
            assert_eq!(lines[0].curves[0], curve(&[1.0, 3.0, 8.0], y));
            for &(x, found) in &lines[1].curves[0] {
                assert!((found / y(x) - 1.0).abs() < 1e-12, "{found} at {x}, where the curve has {}", y(x));
            }
        }
        let apart = common_x(
            &mut [of(curve(&first, cubed)), of(curve(&[30.0, 40.0], cubed))],
            &LineChart::new("", "", "", vec![]),
        );
        assert!(apart.is_err_and(|error| error.to_string().contains("no x in common")));
        Ok(())
    }
}
