//! A comparison in the terminal.

use comfy_table::{CellAlignment, Table, presets};
use elucidate_report::{Difference, RunRecord, ScoredRun};

/// What is compared and on what it rests, then a row for each difference.
pub fn text(runs: &[ScoredRun], differences: &[Difference]) -> String {
    let mut lines: Vec<String> = runs.iter().map(heading).collect();
    lines.extend(notes(runs, differences).iter().map(|note| format!("note: {note}")));
    let base = differences.first().map_or("", |d| d.base.as_str());
    lines.push(format!("compared with {base}; * marks differences of more than two standard errors"));
    lines.push(table(runs.len() == 1, differences).to_string());
    lines.join("\n")
}

fn heading(run: &ScoredRun) -> String {
    let RunRecord { seed, git_revision, .. } = &run.record;
    let revision = git_revision.get(..12).unwrap_or(git_revision);
    format!("{}: seed {seed}, revision {revision}", run.name())
}

/// What a reader of the table should know.
fn notes(runs: &[ScoredRun], differences: &[Difference]) -> Vec<&'static str> {
    let mut notes = vec![];
    if runs.iter().any(|run| run.record.git_revision != runs[0].record.git_revision) {
        notes.push("the runs are of different git revisions");
    }
    if differences.iter().any(|d| d.paired_seeds == 0) {
        notes.push(
            "0 paired seeds: the errors within the runs add, where differences seed by seed would be surer",
        );
    }
    if differences.iter().any(|d| d.base_seeds == 1 || d.other_seeds == 1) {
        notes.push("of one seed, KID's error is that over subsets of the same samples, which is too small");
    }
    notes
}

fn table(one_run: bool, differences: &[Difference]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let names = if one_run { vec!["setting"] } else { vec!["run", "setting"] };
    let numbers = ["n", "paired seeds", "FID there", "FID", "difference", "", "difference of KID", ""];
    table.set_header(names.iter().chain(&numbers));
    for d in differences {
        let mark = |differs: bool| if differs { "*" } else { "" }.to_string();
        let names = if one_run { vec![d.setting.clone()] } else { vec![d.other.clone(), d.setting.clone()] };
        let numbers = [
            d.n.to_string(),
            d.paired_seeds.to_string(),
            with_error(d.base_fid, d.base_fid_std_err),
            with_error(d.fid, d.fid_std_err),
            with_error(d.fid_difference, d.fid_difference_std_err),
            mark(d.fid_differs),
            with_error(d.kid_difference, d.kid_difference_std_err),
            mark(d.kid_differs),
        ];
        table.add_row(names.into_iter().chain(numbers));
    }
    for column in table.column_iter_mut().skip(names.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn with_error(mean: f64, std_err: Option<f64>) -> String {
    match std_err {
        Some(error) => format!("{mean:.2} ± {error:.2}"),
        None => format!("{mean:.2}"),
    }
}
