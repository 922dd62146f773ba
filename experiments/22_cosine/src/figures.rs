//! The notebook's pictures and charts.

use anyhow::Result;
use elucidate_core::unet::UNet2DModel;
use elucidate_lab::eps::{EpsBatch, EpsData};
use elucidate_lab::figures::save_curves;
use elucidate_lab::pictures::{COLUMNS, pictures};
use elucidate_lab::run::Run;
use elucidate_report::{LineChart, Scale, Series, labelled_rows};
use elucidate_schedules::cosine::{LAST_TIME, alpha_bar, logit, sigma};

/// ᾱ, log SNR and σ over t: one chart each, their numbers in schedule.csv.
pub fn schedule(run: &Run) -> Result<()> {
    let curve = |name: &str, f: fn(f64) -> f64| {
        let times = (1..=200).map(|i| f64::from(i) / 200.0 * LAST_TIME);
        Series { name: name.to_string(), points: times.map(|t| (t, f(alpha_bar(t)))).collect() }
    };
    // σ in units of pixels in [−1,1], as Karras's steps are: twice that of pixels x − ½.
    let curves = [
        curve("ᾱ", |a| a),
        curve("log SNR = ln ᾱ/(1−ᾱ)", logit),
        curve("σ, pixels in [−1,1]", |a| 2.0 * sigma(a)),
    ];
    save_curves(run, "schedule", &curves)?;
    let files = ["schedule_alpha_bar.png", "schedule_log_snr.png", "schedule_sigma.png"];
    let scales = [Scale::Linear, Scale::Linear, Scale::Log];
    for ((series, file), y_scale) in curves.into_iter().zip(files).zip(scales) {
        let (title, y) = (format!("Cosine schedule: {}", series.name), series.name.clone());
        let chart = LineChart { y_scale, ..LineChart::new(&title, "t", &y, vec![series]) };
        chart.save(&run.folder.path(file))?;
    }
    Ok(())
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
