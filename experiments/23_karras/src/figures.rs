//! The notebook's pictures and charts, each with its numbers beside it as CSV.

use anyhow::Result;
use elucidate_core::data::IMAGE;
use elucidate_core::unet::{UNet2DConfig, UNet2DModel};
use elucidate_lab::evaluate::figures::mean_and_std;
use elucidate_lab::evaluate::pictures::{COLUMNS, pictures};
use elucidate_lab::run::Run;
use elucidate_lab::run::options::Preset;
use elucidate_lab::train::images::numbers;
use elucidate_lab::train::objective::{Noised, Objective};
use elucidate_report::{Role, Series, labelled_rows, picture_grid, save_curves};
use elucidate_samplers::Denoiser;
use elucidate_schedules::Preconditioning;

/// Histogram of 10,000 training σ with their kernel-density estimate and the log-normal density they come from.
pub fn training_sigmas(run: &Run, objective: &Objective) -> Result<()> {
    const LAST: f64 = 5.0;
    const BINS: usize = 50;
    let sigmas: Vec<f64> = (0..10_000).map(|k| objective.sigma("histogram", k, None)).collect();
    let width = LAST / BINS as f64;
    let count = |bin: usize| sigmas.iter().filter(|&&s| (s / width) as usize == bin).count();
    let bar = |bin: usize| ((bin as f64 + 0.5) * width, count(bin) as f64 / sigmas.len() as f64 / width);
    let xs = || (1..=250).map(|i| f64::from(i) * LAST / 250.0);
    let density = density_estimate(&sigmas);
    let histogram = Series::line("histogram of 10,000 σ", (0..BINS).map(bar).collect());
    let series = [
        Series { role: Role::Bars, ..histogram },
        Series::line("their kernel density", xs().map(|x| (x, density(x))).collect()),
        Series::line("log-normal density", xs().map(|x| (x, log_density(objective, x) / x)).collect()),
    ];
    save_curves(run.folder.root(), "training_sigma", &series)
}

/// The density of ln σ in training.
fn log_density(objective: &Objective, sigma: f64) -> f64 {
    let Preconditioning { schedule, scale, .. } = objective.choices.preconditioning;
    objective.choices.training_noise.log_density(sigma, &schedule, scale)
}

/// The Gaussian kernel-density estimate over ln σ (Scott 1992's width), as a density of σ.
fn density_estimate(sigmas: &[f64]) -> impl Fn(f64) -> f64 {
    let logs: Vec<f64> = sigmas.iter().map(|s| s.ln()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let std = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let width = std * n.powf(-0.2);
    move |x: f64| {
        let sum: f64 = logs.iter().map(|l| (-((x.ln() - l) / width).powi(2) / 2.0).exp()).sum();
        sum / (n * width * (2.0 * std::f64::consts::PI).sqrt() * x)
    }
}

/// Noised inputs and targets of a training batch, titled with σ, and the mean and standard deviation of both.
pub fn training_batch(run: &mut Run, objective: &Objective) -> Result<()> {
    let n = run.settings.training.batch_size.max(512).min(run.settings.training.train_images);
    let indices: Vec<usize> = (0..n).collect();
    let Noised { clean, sigmas, batch } =
        objective.noised(&run.data.train, &indices, &numbers(&indices), "picture", None)?;
    for (name, tensor) in [("input", &batch.input), ("target", &batch.target)] {
        let (mean, std) = mean_and_std(tensor)?;
        run.figure(&format!("{name} mean"), mean);
        run.figure(&format!("{name} std"), std);
    }
    let rows = [
        ("true", pictures(&clean, COLUMNS, (-1.0, 1.0))?),
        ("noised", pictures(&batch.noised, COLUMNS, (-2.0, 2.0))?),
        ("target", pictures(&batch.target, COLUMNS, (-2.0, 2.0))?),
    ];
    labelled_rows(&run.folder.path("noised_and_targets.png"), &rows, &sigma_titles(&sigmas[..COLUMNS.min(n)]))
}

fn sigma_titles(sigmas: &[f64]) -> Vec<String> {
    sigmas.iter().map(|s| format!("σ {s:.2}")).collect()
}

/// Test images noised, denoised in one step, and as they are.
pub fn one_step(run: &Run, objective: &Objective, denoiser: &impl Denoiser) -> Result<()> {
    let indices: Vec<usize> = (0..COLUMNS.min(run.settings.scoring.test_images)).collect();
    let Noised { clean, sigmas, batch } =
        objective.noised(&run.data.test, &indices, &numbers(&indices), "one step", None)?;
    let denoised = denoiser.denoise(&batch.noised, &sigmas)?;
    let rows = [
        ("noised", pictures(&batch.noised, COLUMNS, (-2.0, 2.0))?),
        ("denoised", pictures(&denoised, COLUMNS, (-1.0, 1.0))?),
        ("true", pictures(&clean, COLUMNS, (-1.0, 1.0))?),
    ];
    labelled_rows(&run.folder.path("denoised_in_one_step.png"), &rows, &sigma_titles(&sigmas))
}

/// Pure noise of σ = 80 denoised in one step: all that the image could become, overlaid.
pub fn pure_noise(run: &Run, denoiser: &impl Denoiser) -> Result<()> {
    let n = 2 * COLUMNS;
    let noise = run.streams.normal_images("starting noise", 0..n as u64, &IMAGE, &run.device)?;
    let denoised = denoiser.denoise(&(noise * 80.0)?, &vec![80.0; n])?;
    let path = run.folder.path("pure_noise_denoised.png");
    picture_grid(&path, &pictures(&denoised, n, (-1.0, 1.0))?, COLUMNS, &[])
}

/// Loss by σ before and after training, over the density of training σ (Karras 2022, figure 5a).
pub fn loss_by_sigma(
    run: &Run,
    objective: &Objective,
    config: &UNet2DConfig,
    after: &UNet2DModel,
) -> Result<()> {
    let (before, _) = objective.networks(config)?;
    let (n, last) = match run.settings.preset {
        Preset::Smoke => (50, 4),
        _ => (500, 16),
    };
    let n = run.settings.scoring.test_images.min(n);
    let sigmas: Vec<f64> =
        (0..=last).map(|i| 0.005 * (50f64 / 0.005).powf(f64::from(i) / f64::from(last))).collect();
    let losses = |model| -> Result<Vec<(f64, f64)>> {
        sigmas.iter().map(|&s| Ok((s, objective.mean_loss(model, n, Some(s))?))).collect()
    };
    let density = (0..=200).map(|i| 0.005 * (50f64 / 0.005).powf(f64::from(i) / 200.0));
    let density = density.map(|s| (s, log_density(objective, s))).collect();
    let series = [
        Series { role: Role::Shade, ..Series::line("training density of ln σ", density) },
        Series::line("before training", losses(&before.model)?),
        Series::line("after training", losses(after)?),
    ];
    save_curves(run.folder.root(), "loss_by_sigma", &series)
}
