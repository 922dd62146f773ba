//! The 23_karras notebook: train with Karras preconditioning, sample with every sampler, score, draw.

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
use elucidate_lab::run::options::{Preset, Settings};
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::model;
use elucidate_lab::train::objective::Objective;
use elucidate_samplers::{Heun, Setting};
use options::{Options, notebook_settings, rho_settings};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    elucidate_lab::run::program::main(elucidate_lab::git_revision!(), run)
}

fn run(options: &Options) -> Result<()> {
    options.edm.check()?;
    let own_settings = options.own.or(vec![], &options.edm.choices().preconditioning)?;
    model::check_checkpoint(&options.run, Options::EXPERIMENT, &options.edm)?;
    let (mut run, edm) = Run::begin(&options.run, Options::EXPERIMENT, options.edm.clone(), preset)?;
    let objective = Objective::new(&run, edm.choices());
    let preconditioning = objective.choices.preconditioning;

    // The data, and what the network is trained on.
    run.phase("look at the data", |run| {
        let (mean, std) = run.data.train.mean_and_std(PixelRange::SIGNED);
        run.figure("data mean", mean);
        run.figure("data std", std);
        figures::training_sigmas(run, &objective)?;
        figures::training_batch(run, &objective)
    })?;

    // The model: trained here, or made before.
    let (config, model) = model::obtain(&mut run, &options.run, &edm, &objective)?;
    model_card(&run, &preconditioning)?;
    let denoiser = objective.denoiser(&model);

    // One step of denoising, and where the model is good.
    run.phase("denoise in one step", |run| {
        figures::one_step(run, &objective, &denoiser)?;
        figures::pure_noise(run, &denoiser)?;
        figures::loss_by_sigma(run, &objective, &config, &model)
    })?;

    // Sampling, scored against the test images.
    let mut table = Table::begin(&mut run, Some(edm.sigma_data))?;
    let sample = |run: &Run, table: &mut Table, setting: &Setting, n: usize, keep: Keep| {
        table.sample(run, setting, n, keep, |streams, progress| {
            draw(&denoiser, setting, streams, n, &run.batches, progress)
        })
    };
    let settings =
        if own_settings.is_empty() { notebook_settings(run.settings.preset) } else { own_settings };
    sampling_sigmas(&run, &preconditioning, &settings)?;
    run.phase("sampling", |run| {
        let keep = Keep { picture: true, samples: options.run.save_samples };
        settings
            .iter()
            .try_for_each(|setting| sample(run, &mut table, setting, run.settings.scoring.samples, keep))
    })?;
    if !options.own.is_given() {
        nearest_training_images(&mut run, |run, n| {
            let heun = Setting::notebook(Heun::default(), run.settings.preset.steps(20));
            Ok(draw(&denoiser, &heun, &run.streams, n, &run.batches, &|_| ())?.images)
        })?;
        run.phase("FID by rho", |run| {
            let n = run.settings.scoring.samples.div_ceil(2).max(8);
            let settings = rho_settings(run.settings.preset);
            settings.iter().try_for_each(|setting| sample(run, &mut table, setting, n, Keep::default()))
        })?;
    }
    table.finish(&run)?;
    model_card(&run, &preconditioning)?;
    run.finish()
}

/// The notebook's peak learning rate.
fn preset(settings: &mut Settings) {
    if settings.preset == Preset::Lesson {
        settings.training.lr = 1e-2;
    }
}
