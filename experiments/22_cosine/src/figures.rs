//! The notebook's pictures and charts.

use anyhow::Result;
use elucidate_lab::evaluate::pictures::{COLUMNS, pictures};
use elucidate_lab::run::Run;
use elucidate_lab::train::images::numbers;
use elucidate_lab::train::objective::{Noised, Objective};
use elucidate_report::{Series, labelled_rows, save_curves};
use elucidate_samplers::Denoiser;
use elucidate_schedules::{LAST_TIME, Preconditioning, logit};

/// ᾱ, log SNR and σ over t.
pub fn schedule(run: &Run, objective: &Objective) -> Result<()> {
    let Preconditioning { schedule, scale, .. } = objective.choices.preconditioning;
    let save = |name: &str, what: &str, f: &dyn Fn(f64) -> f64| {
        let times = (1..=200).map(|i| f64::from(i) / 200.0 * LAST_TIME);
        save_curves(run.folder.root(), name, &[Series::line(what, times.map(|t| (t, f(t))).collect())])
    };
    save("schedule_alpha_bar", "ᾱ", &|t| schedule.alpha_bar(t))?;
    save("schedule_log_snr", "log SNR", &|t| logit(schedule.alpha_bar(t)))?;
    // In units of pixels in [−1,1], as Karras's steps are: twice that of pixels x − ½.
    save("schedule_sigma", "σ", &|t| schedule.sigma(t) / scale)
}

/// Test images as they are and noised, titled with t.
pub fn noised(run: &Run, objective: &Objective) -> Result<()> {
    let noised = first(run, objective)?;
    let rows = [
        ("true", pictures(&noised.clean, COLUMNS, (-1.0, 1.0))?),
        ("noised", pictures(&noised.batch.input, COLUMNS, (-1.0, 1.0))?),
    ];
    labelled_rows(&run.folder.path("noised.png"), &rows, &titles(objective, &noised))
}

/// The same images denoised in one step.
pub fn one_step(run: &Run, objective: &Objective, denoiser: &impl Denoiser) -> Result<()> {
    let noised = first(run, objective)?;
    let denoised = denoiser.denoise(&noised.batch.noised, &noised.sigmas)?;
    let rows = [
        ("noised", pictures(&noised.batch.input, COLUMNS, (-1.0, 1.0))?),
        ("denoised", pictures(&denoised, COLUMNS, (-1.0, 1.0))?),
        ("true", pictures(&noised.clean, COLUMNS, (-1.0, 1.0))?),
    ];
    labelled_rows(&run.folder.path("denoised_in_one_step.png"), &rows, &titles(objective, &noised))
}

/// The first test images, noised.
fn first(run: &Run, objective: &Objective) -> Result<Noised> {
    let indices: Vec<usize> = (0..COLUMNS.min(run.settings.scoring.test_images)).collect();
    Ok(objective.noised(&run.data.test, &indices, &numbers(&indices), "one step", None)?)
}

fn titles(objective: &Objective, noised: &Noised) -> Vec<String> {
    let Preconditioning { schedule, scale, .. } = objective.choices.preconditioning;
    noised.sigmas.iter().map(|sigma| format!("t {:.2}", schedule.time(sigma * scale))).collect()
}
