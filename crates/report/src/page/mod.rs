//! The page of a run, or of several beside each other: one HTML file that needs nothing else.

mod view;

use crate::charts::{LineChart, Series};
use crate::files::{is_there, read_csv, write_atomically};
use crate::plots::{fid_by_rho, fid_by_sampler};
use crate::record::TrainRow;
use crate::scored::{ScoredRun, check_comparable, places};
use anyhow::Result;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use view::{Drawn, RunView, drawn};

const TEMPLATE: &str = include_str!("page.html");

/// All that the page shows.
#[derive(Debug, Serialize)]
struct Page {
    title: String,
    runs: Vec<RunView>,
    /// Of several runs, the options that are not the same in all: the name, and the value in each.
    options_that_differ: Vec<(String, Vec<String>)>,
    /// Charts of several runs together.
    together: Vec<Drawn>,
    /// Why some of these are missing, a sentence each.
    not_together: Vec<String>,
    /// Of several runs, each setting's first samples: its label, and the picture of each run that has one.
    samples: Vec<(String, Vec<Option<view::Samples>>)>,
}

/// Writes a page about the runs in `folders` to `out`: what was run, losses, pictures, samples by setting, the table with its
/// intervals, and how to do it again; of several runs, side by side, with the options in which they differ. The file holds its
/// pictures and styles, so it can be sent to somebody.
///
/// # Errors
/// When a folder is given twice or is none of a run, when a file in it is damaged (by name), or when `out` cannot be written.
pub fn write_page(folders: &[PathBuf], out: &Path) -> Result<()> {
    write_atomically(out, html(&page(folders)?)?.as_bytes())
}

fn html(page: &Page) -> Result<String> {
    let mut templates = Environment::new();
    templates.add_template("page.html", TEMPLATE)?;
    Ok(templates.get_template("page.html")?.render(Serde(page))?)
}

fn page(folders: &[PathBuf]) -> Result<Page> {
    let mut runs = folders.iter().map(|folder| RunView::read(folder)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, place) in runs.iter_mut().zip(places(folders, &names)?) {
        run.name += &place.map_or_else(String::new, |place| format!(" ({place})"));
    }
    let several = runs.len() > 1;
    let (together, not_together) = if several { together(folders, &runs)? } else { (vec![], vec![]) };
    Ok(Page {
        title: runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", "),
        options_that_differ: if several { options_that_differ(&runs) } else { vec![] },
        together,
        not_together,
        samples: if several { samples_by_setting(&runs) } else { vec![] },
        runs,
    })
}

fn options_that_differ(runs: &[RunView]) -> Vec<(String, Vec<String>)> {
    let mut options: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (name, _) in runs.iter().flat_map(|run| &run.options) {
        let value = |run: &RunView| run.options.get(name).cloned().unwrap_or_default();
        options.entry(name).or_insert_with(|| runs.iter().map(value).collect());
    }
    options.retain(|_, values| values.iter().any(|value| *value != values[0]));
    options.into_iter().map(|(name, values)| (name.clone(), values)).collect()
}

fn samples_by_setting(runs: &[RunView]) -> Vec<(String, Vec<Option<view::Samples>>)> {
    let mut labels: Vec<&String> = vec![];
    for samples in runs.iter().flat_map(|run| &run.samples) {
        if !labels.contains(&&samples.label) {
            labels.push(&samples.label);
        }
    }
    let of_run =
        |run: &RunView, label: &str| run.samples.iter().find(|samples| samples.label == label).cloned();
    labels
        .into_iter()
        .map(|label| (label.clone(), runs.iter().map(|run| of_run(run, label)).collect()))
        .collect()
}

/// Charts of several runs together, and why some are missing.
fn together(folders: &[PathBuf], runs: &[RunView]) -> Result<(Vec<Drawn>, Vec<String>)> {
    let (mut charts, mut missing) = (vec![], vec![]);
    match runs.iter().all(|run| run.experiment == runs[0].experiment) {
        true => charts.extend(losses(folders, runs)?.map(|chart| drawn(&chart)).transpose()?),
        false => {
            missing.push("Their losses are not of one experiment, so they are not in one chart.".to_string())
        }
    }
    let scored: Vec<PathBuf> =
        folders.iter().filter(|folder| is_there(&folder.join("samples.csv"))).cloned().collect();
    if scored.len() < 2 {
        return Ok((charts, missing));
    }
    // A run that has just begun has no rows yet.
    let scored: Vec<ScoredRun> =
        ScoredRun::read_all(&scored)?.into_iter().filter(|run| !run.rows.is_empty()).collect();
    match check_comparable(&scored) {
        Ok(()) => {
            charts.extend(fid_by_sampler(&scored).map(|chart| drawn(&chart)).transpose()?);
            charts.extend(fid_by_rho(&scored).map(|chart| drawn(&chart)).transpose()?);
        }
        Err(unlike) => missing.push(format!("Their samples cannot be compared: {unlike:#}.")),
    }
    Ok((charts, missing))
}

/// The test loss of every run that trained.
fn losses(folders: &[PathBuf], runs: &[RunView]) -> Result<Option<LineChart>> {
    let mut series = vec![];
    for (folder, run) in folders.iter().zip(runs) {
        let table = folder.join("train.csv");
        if is_there(&table) {
            let rows = read_csv::<TrainRow>(&table)?;
            series.push(Series::line(
                &run.name,
                rows.iter().map(|row| (row.images as f64, row.test_loss)).collect(),
            ));
        }
    }
    let title = "Loss on the test images";
    Ok((!series.is_empty()).then(|| LineChart::new(title, "images seen", "mean squared error", series)))
}
