//! The design space of Karras 2022, table 1: any prediction along any schedule at any scale of the data, sampled with anything.

mod figures;
mod options;

use anyhow::Result;
use elucidate_lab::evaluate::draw::draw;
use elucidate_lab::evaluate::figures::sampling_sigmas;
use elucidate_lab::evaluate::model_card::model_card;
use elucidate_lab::evaluate::score::{Keep, Table};
use elucidate_lab::run::Run;
use elucidate_lab::run::options::Preset;
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::model;
use elucidate_lab::train::objective::Objective;
use elucidate_samplers::Setting;
use options::Options;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    elucidate_lab::run::program::main(elucidate_lab::git_revision!(), run)
}

fn run(options: &Options) -> Result<()> {
    let choices = options.design.choices()?;
    let preconditioning = choices.preconditioning;
    let heun = options.run.preset.unwrap_or(Preset::Quick).steps(20);
    let heun = Setting::parse(&format!("heun {heun}"), &preconditioning)?;
    let settings = options.own.or(vec![heun], &preconditioning)?;
    model::check_checkpoint(&options.run, Options::EXPERIMENT, &choices)?;
    let (mut run, choices) = Run::begin(&options.run, Options::EXPERIMENT, choices, |_| ())?;
    let objective = Objective::new(&run, choices);

    // What the network is trained on.
    run.phase("look at the data", |run| figures::training_batch(run, &objective))?;

    // The model: trained here, or made before.
    let (_, model) = model::obtain(&mut run, &options.run, &choices, &objective)?;
    model_card(&run, &preconditioning)?;
    let denoiser = objective.denoiser(&model);

    // The error of D(x; σ) by σ: in the same units whatever the network predicts.
    run.phase("error by sigma", |run| figures::error_by_sigma(run, &objective, &denoiser))?;

    // Sampling, scored against the test images.
    let mut table = Table::begin(&mut run, preconditioning.sigma_data())?;
    sampling_sigmas(&run, &preconditioning, &settings)?;
    run.phase("sampling", |run| {
        let keep = Keep { picture: true, samples: options.run.save_samples };
        settings.iter().try_for_each(|setting| {
            let n = run.settings.scoring.samples;
            table.sample(run, setting, n, keep, |streams, progress| {
                draw(&denoiser, setting, streams, n, &run.batches, progress)
            })
        })
    })?;
    table.finish(&run)?;
    model_card(&run, &preconditioning)?;
    run.finish()
}
