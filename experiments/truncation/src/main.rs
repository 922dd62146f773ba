//! Samplers by their error on the ODE itself: how far from its solution they end, by sampler and number of evaluations.

mod errors;
mod figures;
mod ideal;
mod options;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use elucidate_core::data::{IMAGE, PixelRange};
use elucidate_lab::run::Run;
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::model;
use elucidate_report::write_csv;
use elucidate_samplers::{Denoiser, Preconditioned};
use elucidate_schedules::{NoiseInput, Preconditioning};
use errors::{End, Problem};
use ideal::IdealDenoiser;
use options::{ENDS, Options, budgets, preset, reference_steps};
use serde::Deserialize;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The experiment whose model is measured.
const TRAINED_BY: &str = "23_karras";

fn main() -> ExitCode {
    elucidate_lab::run::program::main(elucidate_lab::git_revision!(), run)
}

fn run(options: &Options) -> Result<()> {
    options.check()?;
    let dir = match &options.run.checkpoint {
        Some(dir) => dir.clone(),
        None => model::newest(TRAINED_BY, &options.run, "--checkpoint")?,
    };
    model::check_other(&dir, TRAINED_BY, "--checkpoint")?;
    let own: Edm =
        model::own_options(&dir, TRAINED_BY).with_context(|| format!("--checkpoint {}", dir.display()))?;
    let (mut run, ours) = Run::begin(&options.run, Options::EXPERIMENT, options.own.clone(), preset)?;
    let (steps, budgets) = (reference_steps(&ours, run.settings.preset), budgets(run.settings.preset));

    // Where all paths begin.
    let n = run.settings.scoring.samples;
    let start = run
        .streams
        .normal_images("starting noise", 0..n as u64, &IMAGE, &Device::Cpu)?
        .to_dtype(DType::F64)?;

    // Two denoisers: the one that training would find in the end, and the one that it found.
    let known: Vec<usize> = (0..run.settings.training.train_images).collect();
    let ideal = IdealDenoiser::new(&run.data.train.batch(&known, PixelRange::SIGNED, &Device::Cpu)?)?;
    let network = model::load_other(&mut run, &dir, TRAINED_BY, "--checkpoint")?;
    let preconditioning = Preconditioning::edm(own.sigma_data, own.noise_input);
    let trained = Preconditioned::new(|x: &_, t: &_| network.forward(x, t), preconditioning);

    let (mut errors, mut choices) = (vec![], vec![]);
    let both: [(&str, &dyn Denoiser, Option<&IdealDenoiser>); 2] =
        [("ideal", &ideal, Some(&ideal)), ("trained", &trained, None)];
    for (name, denoiser, images) in both {
        let problem = Problem { name, denoiser, images, preconditioning, start: &start, budgets };
        let ends = run.phase(&format!("{name}: reference"), |run| {
            let ends: Vec<End> = ENDS.iter().map(|&end| problem.end(end, steps)).collect::<Result<_>>()?;
            for end in &ends {
                run.figure(&format!("{name}: error of the reference at σ {}", end.sigma), end.error);
            }
            Ok(ends)
        })?;
        // Where each sampler is, by its evaluations.
        run.phase(&format!("{name}: samplers"), |run| {
            for end in &ends {
                let rows = problem.by_sampler(end)?;
                figures::errors_by_evaluations(run, &rows)?;
                figures::table(&rows, budgets);
                errors.extend(rows);
            }
            Ok(())
        })?;
        // What one step does wrong, by σ and ρ.
        run.phase(&format!("{name}: local errors"), |run| figures::local_errors(run, &problem))?;
        // Which noise levels are best at each budget.
        run.phase(&format!("{name}: choices"), |_| {
            choices.extend(problem.by_choice(ends.last().context("there is an end")?)?);
            Ok(())
        })?;
    }
    write_csv(&run.folder.path("errors.csv"), &errors)?;
    write_csv(&run.folder.path("choices.csv"), &choices)?;
    run.finish()
}

/// What is asked of a model of 23_karras: what its input, time and answer mean.
#[derive(Deserialize)]
struct Edm {
    sigma_data: f64,
    noise_input: NoiseInput,
}
