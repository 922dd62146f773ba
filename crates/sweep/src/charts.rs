//! The charts of a merged table.

use crate::description::{Chart, Kind, Sweep, as_file, text};
use crate::merge::{AXIS, Table};
use anyhow::{Context, Result, bail, ensure};
use elucidate_report::{Chart as _, Estimate, HeatMap, LineChart, Scale, Series, write_csv};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// Where a figure is drawn: its x, and its line or its row of a heat map.
type Place = (String, String);

/// What stands behind the name of an x axis.
pub const WHISKERS: &str = " (whiskers: 95 % intervals over runs)";

/// A figure at a place.
struct Point<'a> {
    place: Place,
    value: f64,
    run: &'a str,
    /// What tells settings and trainings apart, but for their seeds.
    of: Vec<(&'a str, &'a str)>,
}

/// A row of a chart's CSV.
#[derive(Serialize)]
struct Row<'a> {
    x: &'a str,
    line: &'a str,
    mean: f64,
    half_width: Option<f64>,
}

impl<'a> Row<'a> {
    fn of(((x, line), estimate): &'a (Place, Estimate)) -> Self {
        Self { x, line, mean: estimate.mean, half_width: estimate.half_width() }
    }
}

/// Draws a chart of `table` into the sweep's folder, with its numbers as a CSV beside it, and returns its file. A figure is the mean over
/// the runs at its place; its interval is Student's t of the scatter within all places of a line or a row together, where each has runs of
/// its own, else within the place alone.
///
/// # Errors
/// When the chart asks for what the table does not have, when rows that differ in more than their seeds would be drawn as one, or when
/// the file cannot be written.
pub fn draw(sweep: &Sweep, table: &Table, chart: &Chart) -> Result<PathBuf> {
    let estimates = estimates(&points(table, chart)?)?;
    let title = title(chart, word)?;
    let path = sweep.out.join(format!("{}.png", file_stem(chart)?));
    match chart.kind {
        Kind::Lines => lines(chart, title, &estimates)?.save_both(&path)?,
        Kind::HeatMap => heat_map(title, &estimates).save_both(&path)?,
    }
    let rows: Vec<Row> = estimates.iter().map(Row::of).collect();
    write_csv(&path.with_extension("csv"), &rows)?;
    Ok(path)
}

fn title(chart: &Chart, word: fn(&str) -> String) -> Result<String> {
    let across: Vec<String> = across(chart)?.into_iter().map(word).collect();
    let mut title = format!("{} by {}", word(&chart.figure), word(&chart.x));
    if !across.is_empty() {
        title += &format!(" and {}", across.join(", "));
    }
    for (name, value) in &chart.only {
        title += &format!(", {} {}", word(name), text(value)?);
    }
    Ok(title)
}

/// A column's name as a chart shows it.
pub fn word(column: &str) -> String {
    match column {
        "fid" | "kid" | "nfe" => column.to_uppercase(),
        "label" => "setting".to_string(),
        _ => column.replace('_', " "),
    }
}

/// The chart's file and its CSV's in the sweep's folder, without an ending.
///
/// # Errors
/// When the chart lacks what its kind needs.
pub fn file_stem(chart: &Chart) -> Result<String> {
    let name = chart.name.clone().map_or_else(|| title(chart, str::to_string), Ok)?;
    Ok(as_file(&name))
}

/// What lines or rows are told apart by.
fn across(chart: &Chart) -> Result<Vec<&str>> {
    match (chart.kind, &chart.y) {
        (Kind::Lines, None) => Ok(chart.lines.iter().map(String::as_str).collect()),
        (Kind::Lines, Some(_)) => bail!("lines have no y: `lines` says what makes a line"),
        (Kind::HeatMap, Some(y)) if chart.lines.is_empty() => Ok(vec![y]),
        (Kind::HeatMap, Some(_)) => bail!("a heat map has no lines: its rows are `y`"),
        (Kind::HeatMap, None) => bail!("a heat map needs y"),
    }
}

/// The points of the rows that the chart shows.
fn points<'a>(table: &'a Table, chart: &Chart) -> Result<Vec<Point<'a>>> {
    let (x, figure) = (table.column(&chart.x)?, table.column(&chart.figure)?);
    let across: Vec<(&str, &String)> =
        across(chart)?.into_iter().map(|name| Ok((name, table.column(name)?))).collect::<Result<_>>()?;
    let mut only = vec![];
    for (name, value) in &chart.only {
        only.push((table.column(name)?, text(value)?));
    }
    let seed = format!("{AXIS}seed");
    // The sampler of real images says how they were spoilt; a variant is no part of a setting.
    const OF_ROWS: [&str; 4] = ["setting", "sampler", "variant", "n"];
    let tells_apart: Vec<&String> = table
        .columns
        .iter()
        .filter(|&column| column.starts_with(AXIS) && *column != seed || OF_ROWS.contains(&column.as_str()))
        .collect();
    let (mut points, mut of_only) = (vec![], 0);
    for row in &table.rows {
        let cell = |column: &String| row.get(column).map_or("", String::as_str);
        let is_shown = only.iter().all(|(column, value)| same(cell(column), value));
        of_only += usize::from(is_shown);
        let Ok(value) = cell(figure).parse() else { continue };
        // Real images have no setting, no steps …: they have no place where these tell rows apart.
        let is_real = row.get("sampler").is_some_and(|sampler| sampler.starts_with("real"));
        let has_no_place = is_real && across.iter().any(|(_, column)| cell(column).is_empty());
        if !is_shown || cell(x).is_empty() || has_no_place {
            continue;
        }
        let names = across.iter().map(|(name, column)| match chart.kind {
            Kind::Lines => format!("{name} {}", cell(column)),
            Kind::HeatMap => cell(column).to_string(),
        });
        let place = (cell(x).to_string(), names.collect::<Vec<_>>().join(", "));
        let of = tells_apart.iter().map(|column| (column.as_str(), cell(column))).collect();
        points.push(Point { place, value, run: row.get("run").map_or("", String::as_str), of });
    }
    ensure!(of_only > 0, "no row holds what `only` says");
    ensure!(!points.is_empty(), "no row has a number there");
    Ok(points)
}

/// The mean at each place, over what differs in its seeds alone, in the order of the rows.
fn estimates(points: &[Point]) -> Result<Vec<(Place, Estimate)>> {
    let mut places: Vec<(&Place, Vec<&Point>)> = vec![];
    for point in points {
        let Some((_, there)) = places.iter_mut().find(|(place, _)| **place == point.place) else {
            places.push((&point.place, vec![point]));
            continue;
        };
        if let Some((a, b)) = there[0].of.iter().zip(&point.of).find(|(a, b)| a != b) {
            bail!("{} {:?} and {:?} would be drawn as one: put it into x, lines or only", a.0, a.1, b.1);
        }
        there.push(point);
    }
    let of_runs = |points: &Vec<&Point>| -> Vec<f64> {
        let mut runs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        points.iter().for_each(|point| runs.entry(point.run).or_default().push(point.value));
        runs.values().map(|values| Estimate::of(values).mean).collect()
    };
    let mut estimates = vec![];
    for line in in_order(places.iter().map(|(place, _)| &place.1)) {
        let row: Vec<_> = places.iter().filter(|(place, _)| place.1 == line).collect();
        let values: Vec<Vec<f64>> = row.iter().map(|(_, points)| of_runs(points)).collect();
        // The figures of one run at several places scatter together.
        let runs: HashSet<&str> = row.iter().flat_map(|(_, points)| points).map(|point| point.run).collect();
        let have_their_own = runs.len() == values.iter().map(Vec::len).sum::<usize>();
        let means = match have_their_own {
            true => Estimate::of_groups(&values),
            false => values.iter().map(|values| Estimate::of(values)).collect(),
        };
        estimates.extend(row.iter().map(|(place, _)| (*place).clone()).zip(means));
    }
    Ok(estimates)
}

fn lines(chart: &Chart, title: String, estimates: &[(Place, Estimate)]) -> Result<LineChart> {
    let mut series = vec![];
    for name in in_order(estimates.iter().map(|((_, line), _)| line)) {
        let mut points = vec![];
        for ((x, _), estimate) in estimates.iter().filter(|((_, line), _)| *line == name) {
            let number: f64 =
                x.parse().with_context(|| format!("{} {x:?} is no number: a heat map has names", chart.x))?;
            ensure!(!chart.log_x || number > 0.0, "{} {x} has no place on a logarithmic axis", chart.x);
            points.push((number, *estimate));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        series.push(Series::of_estimates(name, &points));
    }
    let x_label = word(&chart.x) + WHISKERS;
    let x_scale = if chart.log_x { Scale::Log } else { Scale::Linear };
    Ok(LineChart { x_scale, ..LineChart::new(&title, &x_label, &word(&chart.figure), series) })
}

fn heat_map(title: String, estimates: &[(Place, Estimate)]) -> HeatMap {
    let has_errors = estimates.iter().any(|(_, estimate)| estimate.half_width().is_some());
    let title = if has_errors { title + " (± half a 95 % interval over runs)" } else { title };
    let columns = in_order(estimates.iter().map(|((x, _), _)| x));
    let cell = |x: &String, y: &String| {
        let found = estimates.iter().find(|((at, line), _)| at == x && line == y);
        found.map(|(_, estimate)| *estimate)
    };
    let row = |y: String| (y.clone(), columns.iter().map(|x| cell(x, &y)).collect());
    let rows = in_order(estimates.iter().map(|((_, line), _)| line)).into_iter().map(row).collect();
    HeatMap { title, columns: columns.clone(), rows }
}

/// As text, or as numbers: 4e-3 is 0.004.
fn same(a: &str, b: &str) -> bool {
    a == b || matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
}

/// Each once: numbers by size, names as they come.
fn in_order<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut values: Vec<String> = values.filter(|value| seen.insert(*value)).cloned().collect();
    if values.iter().all(|value| value.parse::<f64>().is_ok()) {
        values.sort_by(|a, b| a.parse().unwrap_or(0f64).total_cmp(&b.parse().unwrap_or(0f64)));
    }
    values
}
