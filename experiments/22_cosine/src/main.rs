//! The 22_cosine notebook: continuous time, the cosine schedule, DDIM; and Karras's samplers on the same model.

mod figures;
mod options;

use anyhow::Result;
use candle_core::Tensor;
use elucidate_core::data::PixelRange;
use elucidate_core::train::Shard;
use elucidate_core::unet::UNet2DModel;
use elucidate_lab::ddim::{DdimSetting, EpsModel, draw_ddim};
use elucidate_lab::eps::{EpsData, TimeInput};
use elucidate_lab::figures::sampling_sigmas;
use elucidate_lab::model;
use elucidate_lab::one_setting::One;
use elucidate_lab::options::NoOwnOptions;
use elucidate_lab::program::CommandLine;
use elucidate_lab::run::Run;
use elucidate_lab::sampling::{Setting, draw};
use elucidate_lab::score::{Keep, Table};
use elucidate_samplers::EpsDenoiser;
use options::{Options, ddim_settings, karras_settings};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    elucidate_lab::program::main(run)
}

fn run(options: &Options) -> Result<()> {
    let alone = options.one.setting()?;
    let (mut run, own) = Run::begin(&options.run, Options::EXPERIMENT, NoOwnOptions {}, |_| ())?;
    let data = EpsData::new(&run, TimeInput::Given);

    // The schedule, and images noised along it.
    run.phase("look at the data", |run| {
        let (mean, std) = run.data.train.mean_and_std(PixelRange::CENTRED);
        run.figure("data mean", mean);
        run.figure("data std", std);
        figures::schedule(run)?;
        figures::noised(run, &data)
    })?;

    // The model, which predicts the noise: trained here, or made before.
    let training_loss = |model: &UNet2DModel, shard: &Shard| data.training_loss(model, shard);
    let test_loss = |model: &UNet2DModel| data.test_loss(model);
    let (_, model) = model::obtain(&mut run, &options.run, &own, training_loss, test_loss)?;
    let network = |x: &Tensor, t: &Tensor| data.forward(&model, x, t);

    // The same images, denoised in one step.
    run.phase("denoise in one step", |run| {
        let loss = data.test_loss(&model)?;
        run.figure("test loss", loss);
        figures::one_step(run, &data, &model)
    })?;

    // Sampling: the lesson's DDIM, then Karras's samplers on the same model.
    let mut table = Table::begin(&mut run, None)?;
    let keep = Keep { picture: true, samples: options.run.save_samples };
    let (ddim, karras) = match alone {
        Some(One::Ddim(setting)) => (vec![setting], vec![]),
        Some(One::Sigma(setting)) => (vec![], vec![setting]),
        None => (ddim_settings(run.settings.preset), karras_settings(run.settings.preset)),
    };
    run.phase("DDIM", |run| {
        ddim.iter().try_for_each(|setting: &DdimSetting| {
            let n = run.settings.samples;
            let model = EpsModel { network: &network, estimator: None, batches: &run.batches };
            table.sample(run, setting, n, keep, |streams, progress| {
                draw_ddim(model, setting, streams, n, progress, &mut |_| Ok(()))
            })
        })
    })?;
    sampling_sigmas(&run, &karras)?;
    run.phase("Karras's samplers", |run| {
        let denoiser = EpsDenoiser { network: &network, largest_pixel: 0.5 };
        karras.iter().try_for_each(|setting: &Setting| {
            let n = run.settings.samples;
            table.sample(run, setting, n, keep, |streams, progress| {
                draw(&denoiser, setting, streams, n, &run.batches, progress)
            })
        })
    })?;
    table.finish(&run)?;
    run.finish()
}
