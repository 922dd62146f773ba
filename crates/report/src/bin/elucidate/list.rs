//! The runs of a folder, a line each.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use elucidate_report::{Figure, RunRecord, ScoredRun, Summary, TrainRow, is_there, read_csv};
use std::path::{Path, PathBuf};

const COLUMNS: [&str; 7] = ["run", "begun", "preset", "parameters", "test loss", "best FID", "of"];

/// A table of runs, and what is wrong with those that cannot be read.
pub struct List {
    pub table: String,
    pub faults: Vec<String>,
}

/// `runs` in the order in which they were begun.
pub fn of(runs: &[PathBuf]) -> List {
    let (mut rows, mut faults) = (vec![], vec![]);
    for run in runs {
        match row(run) {
            Ok(row) => rows.push(row),
            Err(error) => faults.push(printable(&format!("{}: {error:#}", run.display()))),
        }
    }
    rows.sort();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(COLUMNS);
    table.add_rows(rows.into_iter().map(|(_, row)| row.map(|cell| printable(&cell))));
    for column in table.column_iter_mut().skip(3).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    List { table: table.to_string(), faults }
}

/// Without what would command a terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// When the run was begun, and its row.
fn row(run: &Path) -> Result<(String, [String; 7])> {
    let record = RunRecord::read(run)?;
    let trained = run.join("train.csv");
    let loss = match is_there(&trained) {
        true => read_csv::<TrainRow>(&trained)?.last().map(|row| format!("{:.4}", row.test_loss)),
        false => None,
    };
    let (fid, of) = best(run)?.unwrap_or_default();
    let begun: String = record.started.chars().take(16).collect();
    let row = [
        run.display().to_string(),
        if record.finished.is_some() { begun } else { format!("{begun} (not finished)") },
        record.preset().unwrap_or_default().to_string(),
        record.parameters.to_string(),
        loss.unwrap_or_default(),
        fid,
        of,
    ];
    Ok((record.started, row))
}

/// The best FID and the setting that has it; none where only real images were scored.
fn best(run: &Path) -> Result<Option<(String, String)>> {
    if !is_there(&run.join("samples.csv")) {
        return Ok(None);
    }
    let rows = ScoredRun::read(run)?.rows;
    let fid = |summary: &Summary| summary.figure(Figure::Fid).mean;
    let sampled = Summary::all(&rows).into_iter().filter(|summary| !summary.first().is_real());
    let best = sampled.min_by(|a, b| fid(a).total_cmp(&fid(b)));
    Ok(best.map(|best| (format!("{:.1}", best.figure(Figure::Fid)), best.first().label())))
}
