//! One table of all runs, and its charts.

use crate::description::{PlannedRun, Sweep};
use crate::plan::{State, state};
use crate::{charts, curves};
use anyhow::{Context, Result};
use elucidate_report::{RunRecord, TrainRow, is_there, read_csv, write_atomically};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// What is put before an axis's name in the tables: samples.csv has columns of such names.
pub const AXIS: &str = "axis_";

/// A table of text with named columns; rows lack those that others of their kind do not have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Their names.
    pub columns: Vec<String>,
    /// By column.
    pub rows: Vec<BTreeMap<String, String>>,
}

impl Table {
    fn add(&mut self, row: Vec<(String, String)>) {
        for (column, _) in &row {
            if !self.columns.contains(column) {
                self.columns.push(column.clone());
            }
        }
        self.rows.push(row.into_iter().collect());
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut writer = csv::Writer::from_writer(vec![]);
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer
                .write_record(self.columns.iter().map(|column| row.get(column).map_or("", String::as_str)))?;
        }
        let bytes = writer.into_inner().map_err(|error| error.into_error())?;
        write_atomically(path, &bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The column that a chart's name means: that of the axis, else the one of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn column(&self, name: &str) -> Result<&String> {
        let axis = format!("{AXIS}{}", name.replace('-', "_"));
        let found = self.columns.iter().find(|column| **column == axis);
        found.or_else(|| self.columns.iter().find(|column| *column == name)).with_context(|| {
            format!("there is no axis and no column {name:?}: give one of {}", self.columns.join(", "))
        })
    }
}

/// What merging made.
#[derive(Debug, Default)]
pub struct Merged {
    /// The files that it wrote.
    pub written: Vec<PathBuf>,
    /// Runs that were begun and are not finished: the tables have their rows, the charts do not.
    pub unfinished: usize,
    /// What is wrong with runs, and why charts could not be drawn.
    pub faults: Vec<String>,
}

/// Writes runs.csv, a row for each run with its last losses and figures, and samples.csv, the rows of all runs behind their values on
/// the axes, and draws the charts of those that are finished. What is not there yet is left out.
///
/// # Errors
/// When a table cannot be written.
pub fn merge(sweep: &Sweep) -> Result<Merged> {
    let (mut runs, mut samples, mut merged) = (Table::default(), Table::default(), Merged::default());
    let mut finished = HashSet::new();
    for run in &sweep.runs {
        match state(sweep, run).and_then(|state| add(sweep, run, state, &mut runs, &mut samples)) {
            Ok(State::Missing) => {}
            Ok(State::Stopped) => merged.unfinished += 1,
            Ok(State::Finished) => drop(finished.insert(run.name.as_str())),
            // The others are merged all the same.
            Err(error) => merged.faults.push(format!("{error:#}")),
        }
    }
    let scored: HashSet<&str> =
        samples.rows.iter().filter_map(|row| row.get("run").map(String::as_str)).collect();
    for name in finished.iter().filter(|name| !scored.is_empty() && !scored.contains(**name)) {
        merged
            .faults
            .push(format!("{name} is finished and has no samples.csv: delete its folder, and run it again"));
    }
    for (name, table) in [("runs.csv", &mut runs), ("samples.csv", &mut samples)] {
        if !table.rows.is_empty() {
            merged.written.push(sweep.out.join(name));
            table.write(&sweep.out.join(name))?;
        }
        table.rows.retain(|row| row.get("run").is_some_and(|run| finished.contains(run.as_str())));
    }
    if finished.is_empty() {
        return Ok(merged);
    }
    let mut drawn = |what: &str, chart: Result<Option<PathBuf>>| match chart {
        Ok(path) => merged.written.extend(path),
        Err(error) => merged.faults.push(format!("the chart of {what}: {error:#}")),
    };
    for chart in &sweep.charts {
        let table = if samples.column(&chart.figure).is_ok() { &samples } else { &runs };
        drawn(&chart.figure, charts::draw(sweep, table, chart).map(Some));
    }
    let finished: Vec<&PlannedRun> =
        sweep.runs.iter().filter(|run| finished.contains(run.name.as_str())).collect();
    for curves in &sweep.curves {
        drawn(&curves.csv, curves::draw(sweep, &finished, curves));
    }
    Ok(merged)
}

/// Adds the rows of a run; returns how far it is.
fn add(
    sweep: &Sweep,
    run: &PlannedRun,
    state: State,
    runs: &mut Table,
    samples: &mut Table,
) -> Result<State> {
    if state == State::Missing {
        return Ok(state);
    }
    let (folder, place) = (sweep.folder(run), place(sweep, run));
    let record = RunRecord::read(&folder)?;
    let path = folder.join("samples.csv");
    let rows = match is_there(&path) {
        true => of_samples(&path).with_context(|| format!("{} is damaged", path.display()))?,
        false => vec![],
    };
    runs.add([place.clone(), of_run(&folder, &record)?].concat());
    rows.into_iter().for_each(|row| samples.add([place.clone(), row].concat()));
    Ok(state)
}

/// The name of a run and its values on the axes.
fn place(sweep: &Sweep, run: &PlannedRun) -> Vec<(String, String)> {
    let axes = sweep.axes.iter().map(|axis| format!("{AXIS}{}", axis.replace('-', "_")));
    [("run".to_string(), run.name.clone())].into_iter().chain(axes.zip(run.values.clone())).collect()
}

/// What runs.csv says of a run.
fn of_run(folder: &Path, record: &RunRecord) -> Result<Vec<(String, String)>> {
    let mut row = vec![
        ("finished", record.finished.clone().unwrap_or_default()),
        ("seconds", format!("{:.1}", record.seconds.values().sum::<f64>())),
        ("parameters", record.parameters.to_string()),
    ];
    let losses = folder.join("train.csv");
    let losses: Vec<TrainRow> = if is_there(&losses) { read_csv(&losses)? } else { vec![] };
    if let Some(last) = losses.last() {
        row.push(("images", last.images.to_string()));
        row.push(("train_loss", last.train_loss.to_string()));
        row.push(("test_loss", last.test_loss.to_string()));
    }
    let figures = record.figures.iter().map(|(name, value)| (name.clone(), value.to_string()));
    Ok(row.into_iter().map(|(name, value)| (name.to_string(), value)).chain(figures).collect())
}

/// The rows of a samples.csv, less the run's name, which the sweep has.
fn of_samples(path: &Path) -> Result<Vec<Vec<(String, String)>>> {
    let mut reader = csv::Reader::from_path(path)?;
    let header = reader.headers()?.clone();
    let mut rows = vec![];
    for row in reader.records() {
        let row = row?;
        let cells = header.iter().zip(row.iter()).map(|(name, value)| (name.to_string(), value.to_string()));
        rows.push(cells.filter(|(name, _)| name != "run").collect());
    }
    Ok(rows)
}
