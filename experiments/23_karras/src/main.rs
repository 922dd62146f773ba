//! The 23_karras notebook: train with Karras preconditioning, sample with every sampler, score, draw.

mod edm;
mod figures;
mod options;

use anyhow::Result;
use edm::Edm;
use elucidate_core::train::Shard;
use elucidate_core::unet::UNet2DModel;
use elucidate_lab::figures::sampling_sigmas;
use elucidate_lab::model;
use elucidate_lab::options::{Preset, Settings};
use elucidate_lab::program::CommandLine;
use elucidate_lab::run::Run;
use elucidate_lab::sampling::{Setting, draw};
use elucidate_lab::score::{Keep, Table};
use options::{Options, notebook_settings, rho_settings};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    elucidate_lab::program::main(run)
}

fn run(options: &Options) -> Result<()> {
    let alone = options.alone()?;
    options.edm.check()?;
    let (mut run, edm_options) = Run::begin(&options.run, Options::EXPERIMENT, options.edm.clone(), preset)?;
    let edm = Edm::new(&edm_options, &run);

    // The data, and what the network is trained on.
    run.phase("look at the data", |run| {
        let (mean, std) = run.data.train.mean_and_std(edm::PIXELS);
        run.figure("data mean", mean);
        run.figure("data std", std);
        figures::training_sigmas(run, &edm)?;
        figures::training_batch(run, &edm)
    })?;

    // The model: trained here, or made before.
    let training_loss = |model: &UNet2DModel, shard: &Shard| edm.training_loss(model, shard);
    let test_loss = |model: &UNet2DModel| edm.test_loss(model);
    let (config, model) = model::obtain(&mut run, &options.run, &edm_options, training_loss, test_loss)?;
    let denoiser = edm.denoiser(&model);

    // One step of denoising, and where the model is good.
    run.phase("denoise in one step", |run| {
        figures::one_step(run, &edm, &denoiser)?;
        figures::pure_noise(run, &denoiser)?;
        figures::loss_by_sigma(run, &edm, &config, &model)
    })?;

    // Sampling, scored against the test images.
    let mut table = Table::begin(&mut run, Some(edm.sigma_data))?;
    let sample = |run: &Run, table: &mut Table, setting: &Setting, n: usize, keep: Keep| {
        table.sample(run, setting, n, keep, |streams, progress| {
            draw(&denoiser, setting, streams, n, &run.batches, progress)
        })
    };
    let settings = alone.map_or_else(|| notebook_settings(run.settings.preset), |setting| vec![setting]);
    sampling_sigmas(&run, &settings)?;
    run.phase("sampling", |run| {
        let keep = Keep { picture: true, samples: options.run.save_samples };
        settings.iter().try_for_each(|setting| sample(run, &mut table, setting, run.settings.samples, keep))
    })?;
    if options.one.sampler.is_none() {
        run.phase("FID by rho", |run| {
            let n = run.settings.samples.div_ceil(2);
            let settings = rho_settings(run.settings.preset);
            settings.iter().try_for_each(|setting| sample(run, &mut table, setting, n, Keep::default()))
        })?;
    }
    table.finish(&run)?;
    run.finish()
}

/// The notebook's peak learning rate.
fn preset(settings: &mut Settings) {
    if settings.preset == Preset::Lesson {
        settings.lr = 1e-2;
    }
}
