//! The 23_karras notebook: train with Karras preconditioning, sample with every sampler, score, draw.

mod edm;
mod figures;
mod options;
mod yardsticks;

use anyhow::{Context, Result};
use clap::Parser;
use edm::Edm;
use elucidate_core::params::{Params, Tensors, frozen};
use elucidate_core::unet::{UNet2DConfig, UNet2DModel, load_model, notebook_init, save_model};
use elucidate_lab::progress::bar;
use elucidate_lab::run::Run;
use elucidate_lab::sampling::{Setting, draw};
use elucidate_lab::score::{Scorer, Table};
use elucidate_lab::training::train;
use elucidate_report::SampleRow;
use elucidate_samplers::Denoiser;
use options::{Options, notebook_settings, rho_settings};
use sha2::{Digest, Sha256};
use std::process::ExitCode;
use std::time::Instant;
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
        Some(dir) => {
            load_model(dir, &run.device).with_context(|| format!("--checkpoint {}", dir.display()))?
        }
        None => run.phase("training", |run| trained(run, &edm, options.run.resume.is_some()))?,
    };
    let model = UNet2DModel::new(&config, frozen(&weights, &run.device))?;
    run.record.parameters = weights.values().map(|t| t.elem_count()).sum();
    let half = run.settings.preset != elucidate_lab::options::Preset::Lesson;
    save_model(&run.folder.path("model"), &config, &weights, half)?;
    run.record.checkpoint_sha256 = Some(file_sha256(&run)?);
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
    let mut table = Table::new(Some(edm.sigma_data));
    run.phase("floor and yardsticks", |run| yardsticks::score(run, &scorer, &mut table))?;
    let settings = alone.map_or_else(|| notebook_settings(run.settings.preset), |setting| vec![setting]);
    figures::sampling_sigmas(&run, &settings)?;
    run.phase("sampling", |run| {
        let n = run.settings.samples;
        settings.iter().try_for_each(|setting| {
            sample(run, &denoiser, setting, n, options.run.save_samples, &scorer, &mut table, true)
        })
    })?;
    figures::fid_by_sampler(&run, table.rows())?;
    if options.one.sampler.is_none() {
        run.phase("FID by rho", |run| {
            let n = run.settings.samples.div_ceil(2);
            let from = table.rows().len();
            for setting in rho_settings(run.settings.preset) {
                sample(run, &denoiser, &setting, n, false, &scorer, &mut table, false)?;
            }
            figures::fid_by_rho(run, &table.rows()[from..])
        })?;
    }
    summary(table.rows());
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

/// Draws `n` samples of one setting, scores them, and adds a row to the table.
#[allow(clippy::too_many_arguments)]
fn sample(
    run: &Run,
    denoiser: &(impl Denoiser + Sync),
    setting: &Setting,
    n: usize,
    save: bool,
    scorer: &Scorer,
    table: &mut Table,
    picture: bool,
) -> Result<()> {
    let label = figures::label(setting);
    let progress = bar(&label, n as u64);
    let start = Instant::now();
    let samples =
        draw(denoiser, setting, &run.streams, n, edm::IMAGE, &run.device, &|done| progress.inc(done as u64))?;
    let time = start.elapsed();
    progress.finish_and_clear();
    let score = scorer.score(&samples, run.settings.seed)?;
    table.add(run, setting, n, score, time)?;
    info!(
        "{label}: FID {:.2}, KID {:.5}, {} evaluations, {:.0} s",
        score.fid,
        score.kid,
        setting.nfe(),
        time.as_secs_f64()
    );
    if picture {
        figures::sample_grid(run, setting, &samples)?;
    }
    if save {
        let path = run.folder.path("samples").join(format!("{}.safetensors", label.replace(' ', "_")));
        std::fs::create_dir_all(run.folder.path("samples"))?;
        samples
            .save_safetensors("samples", &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn file_sha256(run: &Run) -> Result<String> {
    let path = run.folder.path("model/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:x}", Sha256::digest(bytes)))
}

fn summary(rows: &[SampleRow]) {
    info!("{:<20} {:>6} {:>5} {:>6} {:>8} {:>9}", "sampler", "steps", "nfe", "rho", "FID", "KID");
    let cell = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
    for row in rows {
        let [steps, nfe] = [row.steps, row.nfe].map(|value| cell(value.map(|v| v.to_string())));
        let rho = cell(row.rho.map(|rho| rho.to_string()));
        info!("{:<20} {steps:>6} {nfe:>5} {rho:>6} {:>8.2} {:>9.5}", row.sampler, row.fid, row.kid);
    }
}
