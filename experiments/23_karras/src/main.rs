//! The 23_karras notebook: train with Karras preconditioning, sample with every sampler, score, draw.

mod edm;
mod figures;
mod options;
mod yardsticks;

use anyhow::Result;
use clap::Parser;
use edm::Edm;
use elucidate_core::params::{Params, Tensors, frozen};
use elucidate_core::unet::{UNet2DConfig, UNet2DModel, notebook_init};
use elucidate_lab::model;
use elucidate_lab::options::Preset;
use elucidate_lab::run::Run;
use elucidate_lab::score::{Keep, Scorer, Table};
use elucidate_lab::training::train;
use options::{Options, notebook_settings, rho_settings};
use std::process::ExitCode;
use tracing::info;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The notebook's peak learning rate.
const LESSON_LR: f64 = 1e-2;

fn main() -> ExitCode {
    elucidate_lab::run::report(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let alone = options.one.setting()?;
    options.edm.check()?;
    let (mut run, edm_options) = Run::begin(&options.run, "23_karras", options.edm.clone(), LESSON_LR)?;
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
    let (config, weights) = match &options.run.checkpoint {
        Some(dir) => model::load(&mut run, dir, &edm_options)?,
        None => {
            let resume = options.run.resume.is_some();
            let (config, weights) = run.phase("training", |run| trained(run, &edm, resume))?;
            let half = run.settings.preset != Preset::Lesson;
            let weights = model::save(&mut run, &config, &weights, &edm_options, half)?;
            (config, weights)
        }
    };
    let model = UNet2DModel::new(&config, frozen(&weights, &run.device))?;
    let denoiser = edm.denoiser(&model);

    // One step of denoising, and where the model is good.
    run.phase("denoise in one step", |run| {
        figures::one_step(run, &edm, &denoiser)?;
        figures::pure_noise(run, &denoiser)?;
        let before = edm.untrained(run, &config)?;
        figures::loss_by_sigma(run, &edm, &before, &model)
    })?;

    // Sampling, scored against the test images.
    let scorer = run.phase("features of the test images", |run| {
        let indices: Vec<usize> = (0..run.settings.test_images).collect();
        let real = run.data.test.batch(&indices, edm::PIXELS, &run.device)?;
        Scorer::new(run.classifier.clone(), &real)
    })?;
    let mut table = Table::new(scorer, Some(edm.sigma_data));
    run.phase("floor and yardsticks", |run| yardsticks::score(run, &mut table))?;
    let settings = alone.map_or_else(|| notebook_settings(run.settings.preset), |setting| vec![setting]);
    figures::sampling_sigmas(&run, &settings)?;
    run.phase("sampling", |run| {
        let keep = Keep { picture: true, samples: options.run.save_samples };
        settings.iter().try_for_each(|setting| {
            table.sample(run, &denoiser, setting, run.settings.samples, edm::IMAGE, keep)
        })
    })?;
    figures::fid_by_sampler(&run, table.rows())?;
    if options.one.sampler.is_none() {
        run.phase("FID by rho", |run| {
            let n = run.settings.samples.div_ceil(2);
            let from = table.rows().len();
            for setting in rho_settings(run.settings.preset) {
                table.sample(run, &denoiser, &setting, n, edm::IMAGE, Keep::default())?;
            }
            figures::fid_by_rho(run, &table.rows()[from..])
        })?;
    }
    table.log();
    run.finish()
}

/// Trains the UNet and returns the average of its weights.
fn trained(run: &mut Run, edm: &Edm, resume: bool) -> Result<(UNet2DConfig, Tensors)> {
    let config = run.settings.unet();
    let (model, params) = Params::init(&run.streams, &run.device, |vb| UNet2DModel::new(&config, vb))?;
    notebook_init(&params, &run.streams)?;
    run.record.parameters = params.count();
    info!("{} parameters", params.count());
    let weights = train(
        run,
        &params,
        resume,
        |shard| edm.training_loss(&model, shard),
        |weights| edm.test_loss(&UNet2DModel::new(&config, frozen(weights, edm.device()))?),
    )?;
    Ok((config, weights))
}
