//! The command line of exp-22-noise-pred.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use elucidate_lab::run::options::{Levels, Preset, RunOptions, Settings};
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::noise_level::EXPERIMENT;

/// Train the scoring classifier's architecture to read the noise level off an image: logit ᾱ from x_t alone; then, on
/// equal training, ᾱ itself.
///
/// Everything lands in the run's folder: run.json, train.csv, errors.csv, charts and pictures (*.png), model/,
/// checkpoint/ and log.txt. --blocks are the channels of the network's six blocks. With --checkpoint that model is
/// measured, and nothing trained.
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-22-noise-pred", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,
}

impl CommandLine for Options {
    const EXPERIMENT: &'static str = EXPERIMENT;

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

impl Options {
    /// # Errors
    /// When an option is given that this network does not have.
    pub fn check(&self) -> Result<()> {
        let run = &self.run;
        for (option, given) in [
            ("--layers-per-block", run.training.layers_per_block.is_some()),
            ("--attention", run.training.attention.is_some()),
            ("--attention-head-dim", run.training.attention_head_dim.is_some()),
            ("--samples", run.scoring.samples.is_some()),
            ("--fid-every", run.scoring.fid_every.is_some()),
            ("--save-samples", run.save_samples),
        ] {
            ensure!(!given, "{option} is for the experiments that train a UNet and sample it");
        }
        let levels = run.training.blocks.as_ref().map_or(6, Vec::len);
        ensure!(levels == 6, "--blocks has {levels} numbers: this network has six blocks");
        let images = run.training.train_images.unwrap_or(60_000);
        if let Some(size) = run.training.batch_size {
            ensure!(
                size > 1 && images % size != 1,
                "--batch-size {size} leaves a batch of one image, which batch norm cannot normalise: give another"
            );
        }
        Ok(())
    }
}

/// The notebook's values for the lesson preset; smaller batches at a lower rate for long, half the channels for quick, a quarter and less for smoke. The last
/// weights count, not their average: so does the notebook.
pub fn preset(settings: &mut Settings) {
    settings.training.lr = 1e-2;
    settings.training.ema_decay = 0.0;
    settings.training.attention = Levels::default();
    match settings.preset {
        Preset::Smoke => settings.training.blocks = vec![8, 8, 8, 16, 16, 32],
        Preset::Quick => {
            settings.training.blocks = vec![8, 16, 32, 64, 128, 256];
            settings.training.batch_size = 128;
            settings.training.epochs = 4;
        }
        Preset::Long | Preset::Lesson => {
            settings.training.blocks = vec![16, 32, 64, 128, 256, 512];
            settings.training.epochs = 20;
            if settings.preset == Preset::Long {
                (settings.training.batch_size, settings.training.lr) = (128, 3e-3);
            }
        }
    }
}

/// The channels of the network's six blocks.
///
/// # Errors
/// When there are not six of them.
pub fn channels(settings: &Settings) -> Result<[usize; 6]> {
    settings.training.blocks.as_slice().try_into().context("this network has six blocks")
}
