//! One table of all runs, and its charts.

use crate::charts::draw;
use crate::description::{PlannedRun, Sweep};
use crate::plan::{State, state};
use anyhow::{Context, Result};
use elucidate_report::{RunRecord, TrainRow, is_there, read_csv, write_atomically};
use std::collections::BTreeMap;
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

/// Writes runs.csv, a row for each run with its last losses and figures, and samples.csv, the rows of all runs behind their values on
/// the axes, and draws the charts. What is not there yet is left out. Returns the files.
///
/// # Errors
/// When a run's file is damaged, a chart asks for what is not there or puts several settings into one place, or a file cannot be
/// written.
pub fn merge(sweep: &Sweep) -> Result<Vec<PathBuf>> {
    let (mut runs, mut samples) = (Table::default(), Table::default());
    for run in &sweep.runs {
        let folder = sweep.folder(run);
        if state(sweep, run)? == State::Missing {
            continue;
        }
        let place = place(sweep, run);
        let record = RunRecord::read(&folder)?;
        runs.add([place.clone(), of_run(&folder, &record)?].concat());
        let path = folder.join("samples.csv");
        if is_there(&path) {
            let rows = of_samples(&path).with_context(|| format!("{} is damaged", path.display()))?;
            rows.into_iter().for_each(|row| samples.add([place.clone(), row].concat()));
        }
    }
    let mut written = vec![];
    if runs.rows.is_empty() {
        return Ok(written);
    }
    for (name, table) in [("runs.csv", &runs), ("samples.csv", &samples)] {
        if !table.rows.is_empty() {
            written.push(sweep.out.join(name));
            table.write(&sweep.out.join(name))?;
        }
    }
    let mut drawn = Ok(());
    for chart in &sweep.charts {
        let table = if samples.column(&chart.figure).is_ok() { &samples } else { &runs };
        match draw(sweep, table, chart) {
            Ok(path) => written.push(path),
            // The others are drawn all the same.
            Err(error) => drawn = Err(error.context(format!("the chart of {}", chart.figure))),
        }
    }
    drawn?;
    Ok(written)
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
