//! The 22_cosine notebook: continuous time, the cosine schedule, DDIM; and Karras's samplers on the same model.

mod figures;
mod options;

use anyhow::Result;
use elucidate_core::data::PixelRange;
use elucidate_lab::evaluate::draw::draw;
use elucidate_lab::evaluate::figures::sampling_sigmas;
use elucidate_lab::evaluate::model_card::model_card;
use elucidate_lab::evaluate::nearest::nearest_training_images;
use elucidate_lab::evaluate::score::{Keep, Table};
use elucidate_lab::run::Run;
use elucidate_lab::run::options::NoOwnOptions;
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::model;
use elucidate_lab::train::objective::{Choices, Objective};
use elucidate_samplers::Setting;
use options::{Options, ddim_settings, karras_settings};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    elucidate_lab::run::program::main(elucidate_lab::git_revision!(), run)
}

fn run(options: &Options) -> Result<()> {
    let choices = Choices::lesson_eps(true);
    let preconditioning = choices.preconditioning;
    let own_settings = options.own.or(vec![], &preconditioning)?;
    model::check_checkpoint(&options.run, Options::EXPERIMENT, &NoOwnOptions {})?;
    let (mut run, own) = Run::begin(&options.run, Options::EXPERIMENT, NoOwnOptions {}, |_| ())?;
    let objective = Objective::new(&run, choices);

    // The schedule, and images noised along it.
    run.phase("look at the data", |run| {
        let (mean, std) = run.data.train.mean_and_std(PixelRange::CENTRED);
        run.figure("data mean", mean);
        run.figure("data std", std);
        figures::schedule(run, &objective)?;
        figures::noised(run, &objective)
    })?;

    // The model, which predicts the noise: trained here, or made before.
    let (_, model) = model::obtain(&mut run, &options.run, &own, &objective)?;
    model_card(&run, &preconditioning)?;
    let denoiser = objective.denoiser(&model);

    // The same images, denoised in one step.
    run.phase("denoise in one step", |run| {
        let loss = objective.test_loss(&model)?;
        run.figure("test loss", loss);
        figures::one_step(run, &objective, &denoiser)
    })?;

    // Sampling: the lesson's DDIM, then Karras's samplers on the same model.
    let mut table = Table::begin(&mut run, None)?;
    let keep = Keep { picture: true, samples: options.run.save_samples };
    let sample = |run: &Run, table: &mut Table, setting: &Setting| {
        let n = run.settings.scoring.samples;
        table.sample(run, setting, n, keep, |streams, progress| {
            draw(&denoiser, setting, streams, n, &run.batches, progress)
        })
    };
    let preset = run.settings.preset;
    let (ddim, karras) = match own_settings.is_empty() {
        true => (ddim_settings(preset), karras_settings(preset)),
        false => (vec![], own_settings),
    };
    run.phase("DDIM", |run| ddim.iter().try_for_each(|setting| sample(run, &mut table, setting)))?;
    if let Some(notebooks) = ddim.first() {
        nearest_training_images(&mut run, |run, n| {
            Ok(draw(&denoiser, notebooks, &run.streams, n, &run.batches, &|_| ())?.images)
        })?;
    }
    sampling_sigmas(&run, &preconditioning, &karras)?;
    run.phase("Karras's samplers", |run| {
        karras.iter().try_for_each(|setting| sample(run, &mut table, setting))
    })?;
    table.finish(&run)?;
    model_card(&run, &preconditioning)?;
    run.finish()
}
