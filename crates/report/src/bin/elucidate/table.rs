//! A comparison in the terminal.

use comfy_table::{CellAlignment, Table, presets};
use elucidate_report::{Difference, RunRecord, ScoredRun};

/// Prints what is compared and on what it rests, then a row for each difference.
pub fn print(runs: &[ScoredRun], differences: &[Difference]) {
    for run in runs {
        let RunRecord { seed, git_revision, .. } = &run.record;
        println!("{}: seed {seed}, revision {}", run.name(), git_revision.get(..12).unwrap_or(git_revision));
    }
    let revision = |run: &ScoredRun| run.record.git_revision.clone();
    if runs.iter().any(|run| revision(run) != revision(&runs[0])) {
        println!("note: the runs are of different git revisions");
    }
    if differences.iter().any(|d| d.paired_seeds == 0) {
        println!(
            "note: rows with 0 paired seeds rest on errors within the runs, not on differences seed by seed"
        );
    }
    if differences.iter().any(|d| d.base_seeds == 1 || d.other_seeds == 1) {
        println!(
            "note: of one seed, KID's error is that over subsets of the same samples, which is too small"
        );
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let one_run = runs.len() == 1;
    let against = differences.first().map_or("", |d| d.base.as_str());
    println!("compared with {against}; * marks differences of more than two standard errors");
    let mut header =
        vec!["setting", "n", "paired seeds", "FID there", "FID", "difference", "", "KID ×1000", ""];
    if !one_run {
        header.insert(0, "run");
    }
    table.set_header(header);
    for d in differences {
        let mark = |differs: bool| if differs { "*" } else { "" }.to_string();
        let mut row = vec![
            d.setting.clone(),
            d.n.to_string(),
            d.paired_seeds.to_string(),
            with_error(d.base_fid, d.base_fid_std_err),
            with_error(d.fid, d.fid_std_err),
            with_error(d.fid_difference, d.fid_difference_std_err),
            mark(d.fid_differs),
            with_error(1000.0 * d.kid_difference, d.kid_difference_std_err.map(|error| 1000.0 * error)),
            mark(d.kid_differs),
        ];
        if !one_run {
            row.insert(0, d.other.clone());
        }
        table.add_row(row);
    }
    let left = if one_run { 1 } else { 2 };
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

fn with_error(mean: f64, std_err: Option<f64>) -> String {
    match std_err {
        Some(error) => format!("{mean:.2} ± {error:.2}"),
        None => format!("{mean:.2}"),
    }
}
