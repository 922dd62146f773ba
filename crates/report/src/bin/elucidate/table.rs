//! A comparison in the terminal.

use comfy_table::{CellAlignment, Table, presets};
use elucidate_report::{
    Basis, Components, Difference, Figure, Ratio, RunRecord, ScoredRun, Summary, left_out,
};
use std::collections::BTreeSet;

/// What is compared and on what it rests, then a row for each difference.
pub fn text(runs: &[ScoredRun], differences: &[Difference]) -> String {
    let mut lines: Vec<String> = runs.iter().map(heading).collect();
    lines.extend(notes(runs, differences).iter().map(|note| format!("note: {note}")));
    let base = differences.first().map_or("", |d| d.base.as_str());
    lines.push(format!("compared with {base}; ± half a 95 % interval, of sampling alone and not of training; * marks intervals without 0"));
    lines.push(table(runs.len() == 1, differences).to_string());
    lines.join("\n")
}

/// The scatter over seeds of a run's settings, and of what each has more than the first that is sampled, over what the bootstrap says.
pub fn of_errors(run: &ScoredRun) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["setting", "n", "seeds", "FID", "KID"]);
    let cell = |ratio: Option<Ratio>| ratio.map_or_else(|| "-".to_string(), |ratio| ratio.to_string());
    let summaries = Summary::all(&run.rows);
    let first = summaries.iter().find(|summary| !summary.first().is_real());
    let (mut alone, mut paired) = (vec![], vec![]);
    for summary in &summaries {
        let row = summary.first();
        let numbers = [row.n.to_string(), summary.seeds().to_string()];
        let ratios = [Figure::Fid, Figure::Kid].map(|figure| cell(summary.scatter_over_bootstrap(figure)));
        alone.push([vec![row.label()], numbers.to_vec(), ratios.to_vec()].concat());
        if let Some(first) =
            first.filter(|first| *first != summary && !row.is_real() && first.first().n == row.n)
        {
            let ratios = [Figure::Fid, Figure::Kid]
                .map(|figure| cell(first.difference_over_bootstrap(summary, figure)));
            let name = format!("{} − {}, paired", row.label(), first.first().label());
            paired.push([vec![name], numbers.to_vec(), ratios.to_vec()].concat());
        }
    }
    for row in alone.into_iter().chain(paired) {
        table.add_row(row);
    }
    format!(
        "{}\nstandard deviation over seeds / the bootstrap's standard error within a seed (95 % interval)\n{table}",
        heading(run)
    )
}

/// The components of variance of every setting, and its difference over trainings.
pub fn of_components(components: &[Components]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let header = ["setting", "n", "FID", "training", "sampling", "rest", "difference", "p", "Holm's p"];
    table.set_header(header);
    let p = |p: Option<f64>| p.map_or_else(String::new, |p| format!("{p:.4}"));
    for row in components {
        table.add_row([
            row.setting.clone(),
            row.n.to_string(),
            format!("{:.1}", row.fid),
            format!("{:.1} ({:.1} to {:.1})", row.training_std, row.training_std_low, row.training_std_high),
            format!("{:.1}", row.sampling_std),
            format!("{:.1}", row.rest_std),
            row.difference.map_or_else(String::new, |difference| with_width(difference, row.difference_high)),
            p(row.p),
            p(row.p_holm),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let of = components.first().map_or_else(String::new, |row| {
        format!("{} trainings, each sampled with the same {} seeds", row.trainings, row.seeds)
    });
    format!(
        "{of}\ntraining, sampling, rest: standard deviations of one FID; ± half a 95 % interval, of other trainings and other seeds\n{table}"
    )
}

fn heading(run: &ScoredRun) -> String {
    let RunRecord { seed, git_revision, .. } = &run.record;
    let revision = git_revision.get(..12).unwrap_or(git_revision);
    format!("{}: seed {seed}, revision {revision}", run.name())
}

/// What a reader of the table should know.
fn notes(runs: &[ScoredRun], differences: &[Difference]) -> Vec<String> {
    let mut notes = vec![];
    if runs.iter().any(|run| run.record.git_revision != runs[0].record.git_revision) {
        notes.push("the runs are of different git revisions".to_string());
    }
    let meanings = differences.iter().map(|d| match d.basis {
        Basis::Pairs(_) => "pairs: of samples that began with the same noise: the bootstrap over samples",
        Basis::Seeds(_) => "seeds: the scatter of the differences seed by seed, with Student's t",
        Basis::Apart => "apart: nothing is paired, so the errors of both add: common seeds would be surer",
    });
    notes.extend(meanings.collect::<BTreeSet<_>>().into_iter().rev().map(String::from));
    if runs.len() > 1 {
        notes.extend(left_out(runs));
    }
    if differences.iter().any(|d| d.fid_difference_low.is_none() || d.kid_difference_low.is_none()) {
        notes.push(
            "a difference without ± is of one seed whose samples were not resampled: it tells nothing".into(),
        );
    }
    notes
}

fn table(one_run: bool, differences: &[Difference]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let names = if one_run { vec!["setting"] } else { vec!["run", "setting"] };
    let numbers = ["n", "basis", "FID there", "FID", "difference", "", "difference of KID", ""];
    table.set_header(names.iter().chain(&numbers));
    for d in differences {
        let mark = |differs: bool| if differs { "*" } else { "" }.to_string();
        let names = if one_run { vec![d.setting.clone()] } else { vec![d.other.clone(), d.setting.clone()] };
        let numbers = [
            d.n.to_string(),
            d.basis.to_string(),
            with_width(d.base_fid, d.base_fid_high),
            with_width(d.fid, d.fid_high),
            with_width(d.fid_difference, d.fid_difference_high),
            mark(d.fid_differs),
            with_width(d.kid_difference, d.kid_difference_high),
            mark(d.kid_differs),
        ];
        table.add_row(names.into_iter().chain(numbers));
    }
    for column in table.column_iter_mut().skip(names.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A mean ± half the width of its interval.
fn with_width(mean: f64, high: Option<f64>) -> String {
    match high {
        Some(high) => format!("{mean:.2} ± {:.2}", high - mean),
        None => format!("{mean:.2}"),
    }
}
