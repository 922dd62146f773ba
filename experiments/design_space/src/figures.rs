//! What the network is trained on, and how well it denoises at each σ.

use anyhow::Result;
use candle_core::DType;
use elucidate_core::data::IMAGE;
use elucidate_lab::evaluate::figures::mean_and_std;
use elucidate_lab::evaluate::pictures::{COLUMNS, pictures};
use elucidate_lab::run::Run;
use elucidate_lab::train::images::numbers;
use elucidate_lab::train::objective::{Noised, Objective};
use elucidate_report::{Series, labelled_rows, save_curves};
use elucidate_samplers::Denoiser;

/// Noised inputs and targets of a training batch, titled with σ, and the standard deviation of both.
pub fn training_batch(run: &mut Run, objective: &Objective) -> Result<()> {
    let indices: Vec<usize> = (0..512.min(run.settings.training.train_images)).collect();
    let Noised { clean, sigmas, batch } =
        objective.noised(&run.data.train, &indices, &numbers(&indices), "picture", None)?;
    for (name, tensor) in [("input", &batch.input), ("target", &batch.target)] {
        run.figure(&format!("{name} std"), mean_and_std(tensor)?.1);
    }
    let rows = [
        ("true", pictures(&clean, COLUMNS, (-1.0, 1.0))?),
        ("input", pictures(&batch.input, COLUMNS, (-2.0, 2.0))?),
        ("target", pictures(&batch.target, COLUMNS, (-2.0, 2.0))?),
    ];
    let titles: Vec<String> = sigmas.iter().take(COLUMNS).map(|sigma| format!("σ {sigma:.2}")).collect();
    labelled_rows(&run.folder.path("inputs_and_targets.png"), &rows, &titles)
}

/// Root mean squared error of D(x; σ) on test images, in pixels of [−1,1], by σ.
pub fn error_by_sigma(run: &Run, objective: &Objective, denoiser: &impl Denoiser) -> Result<()> {
    let n = run.settings.scoring.test_images.min(256);
    let indices: Vec<usize> = (0..n).collect();
    let largest = objective.choices.preconditioning.sigma_max();
    let error = |i: i32| -> Result<(f64, f64)> {
        let sigma = 0.01 * (largest / 0.01).powf(f64::from(i) / 16.0);
        let noised = objective.noised(&run.data.test, &indices, &numbers(&indices), "test", Some(sigma))?;
        let denoised = denoiser.denoise(&noised.batch.noised, &noised.sigmas)?;
        let squares =
            (denoised - &noised.clean)?.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok((sigma, (squares / (n * IMAGE.iter().product::<usize>()) as f64).sqrt()))
    };
    let points = (0..=16).map(error).collect::<Result<_>>()?;
    save_curves(run.folder.root(), "error_by_sigma", &[Series::line("root mean squared error of D", points)])
}
