//! The notebook's pictures and charts.

use anyhow::Result;
use elucidate_core::unet::UNet2DModel;
use elucidate_lab::eps::{EpsBatch, EpsData};
use elucidate_lab::pictures::{COLUMNS, pictures};
use elucidate_lab::run::Run;
use elucidate_report::{Series, labelled_rows, save_curves};
use elucidate_schedules::cosine::{LAST_TIME, alpha_bar, logit, sigma};

/// ᾱ, log SNR and σ over t.
pub fn schedule(run: &Run) -> Result<()> {
    let save = |name: &str, what: &str, f: fn(f64) -> f64| {
        let times = (1..=200).map(|i| f64::from(i) / 200.0 * LAST_TIME);
        let curve = Series::line(what, times.map(|t| (t, f(alpha_bar(t)))).collect());
        save_curves(run.folder.root(), name, &[curve])
    };
    save("schedule_alpha_bar", "ᾱ", |a| a)?;
    save("schedule_log_snr", "log SNR", logit)?;
    // In units of pixels in [−1,1], as Karras's steps are: twice that of pixels x − ½.
    save("schedule_sigma", "σ", |a| 2.0 * sigma(a))
}

/// Test images as they are and noised, titled with t.
pub fn noised(run: &Run, data: &EpsData) -> Result<()> {
    let batch = first(run, data)?;
    let rows = [
        ("true", pictures(&batch.clean, COLUMNS, (-0.5, 0.5))?),
        ("noised", pictures(&batch.noised, COLUMNS, (-1.0, 1.0))?),
    ];
    labelled_rows(&run.folder.path("noised.png"), &rows, &titles(&batch))
}

/// The same images denoised in one step.
pub fn one_step(run: &Run, data: &EpsData, model: &UNet2DModel) -> Result<()> {
    let batch = first(run, data)?;
    let denoised = batch.denoised(&data.answer(model, &batch)?)?;
    let rows = [
        ("noised", pictures(&batch.noised, COLUMNS, (-1.0, 1.0))?),
        ("denoised", pictures(&denoised, COLUMNS, (-0.5, 0.5))?),
        ("true", pictures(&batch.clean, COLUMNS, (-0.5, 0.5))?),
    ];
    labelled_rows(&run.folder.path("denoised_in_one_step.png"), &rows, &titles(&batch))
}

/// The first test images, noised.
fn first(run: &Run, data: &EpsData) -> Result<EpsBatch> {
    let indices: Vec<usize> = (0..COLUMNS.min(run.settings.test_images)).collect();
    let positions: Vec<u64> = (0..indices.len() as u64).collect();
    Ok(data.noised(&run.data.test, &indices, &positions, "one step")?)
}

fn titles(batch: &EpsBatch) -> Vec<String> {
    batch.times.iter().map(|t| format!("t {t:.2}")).collect()
}
