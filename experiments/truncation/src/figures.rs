//! Charts and the table of errors.

use crate::errors::{ErrorRow, Problem};
use anyhow::Result;
use elucidate_lab::run::Run;
use elucidate_lab::run::options::Preset;
use elucidate_report::{Series, save_curves};
use tracing::info;

/// The rows of each sampler, in their order.
fn by_sampler(rows: &[ErrorRow]) -> impl Iterator<Item = &[ErrorRow]> {
    rows.chunk_by(|a, b| a.sampler == b.sampler)
}

/// Median error by evaluations, a line for each sampler, of rows of one denoiser and end.
pub fn errors_by_evaluations(run: &Run, rows: &[ErrorRow]) -> Result<()> {
    let line = |rows: &[ErrorRow]| {
        let points = rows.iter().map(|row| (row.nfe as f64, row.median)).collect();
        Series::line(&rows[0].sampler, points)
    };
    let series: Vec<Series> = by_sampler(rows).map(line).collect();
    save_curves(run.folder.root(), &format!("errors_{}_at_sigma_{}", rows[0].denoiser, rows[0].end), &series)
}

/// The local error of a step of Euler's and Heun's method by σ, a line for each ρ.
pub fn local_errors(run: &Run, problem: &Problem) -> Result<()> {
    let (steps, finer, rhos): (_, _, &[f64]) = match run.settings.preset {
        Preset::Smoke => (6, 4, &[1.0, 7.0]),
        _ => (18, 8, &[1.0, 3.0, 5.0, 7.0, 9.0]),
    };
    let samplers = ["euler", "heun"];
    let mut series = [vec![], vec![]];
    for &rho in rhos {
        let errors = problem.local_errors(&samplers, steps, rho, finer)?;
        for (series, errors) in series.iter_mut().zip(errors) {
            series.push(Series::line(format!("ρ {rho}"), errors));
        }
    }
    for (sampler, series) in samplers.iter().zip(&series) {
        save_curves(run.folder.root(), &format!("local_error_{}_{sampler}", problem.name), series)?;
    }
    Ok(())
}

/// The median errors of one denoiser and end as a table in the log.
pub fn table(rows: &[ErrorRow], budgets: &[usize]) {
    let first = &rows[0];
    info!(
        "{} denoiser at σ {}: median distance from the ODE's solution (share of paths elsewhere)",
        first.denoiser, first.end
    );
    let heads: String = budgets.iter().map(|budget| format!("{:>17}", format!("<= {budget}"))).collect();
    info!("{:<20}{heads} {:>6}", "sampler", "order");
    for rows in by_sampler(rows) {
        let cell = |budget: &usize| {
            let row = rows.iter().find(|row| row.budget == *budget);
            let text = row.map_or_else(String::new, |row| {
                let share =
                    row.elsewhere.map_or_else(String::new, |share| format!(" ({:.0} %)", 100.0 * share));
                format!("{:.5}{share}", row.median)
            });
            format!("{text:>17}")
        };
        let cells: String = budgets.iter().map(cell).collect();
        let order = rows[0].order.map_or_else(String::new, |order| format!("{order:.2}"));
        info!("{:<20}{cells} {order:>6}", rows[0].sampler);
    }
}
