//! The options that every experiment has, and the presets that fill in what is not given.

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use elucidate_core::device::DeviceChoice;
use elucidate_core::unet::UNet2DConfig;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;

/// A set of values for everything that is not given by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Everything within 20 seconds, to see that it runs; the figures mean nothing.
    Smoke,
    /// The UNet and recipe that do best in ten minutes of training on two cores with AVX-512. The default on a CPU.
    Quick,
    /// The notebook's values. The default on CUDA.
    Lesson,
}

impl Preset {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Lesson => "lesson",
        }
    }

    /// The notebook's number of sampling steps, a tenth of it for smoke.
    pub fn steps(self, notebook: usize) -> usize {
        if self == Self::Smoke { (notebook / 10).max(3) } else { notebook }
    }
}

/// Options of every experiment; what is not given comes from the preset.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// Values for all that is not given by itself [default: quick on a CPU, lesson on CUDA]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,

    /// The run's seed: initial weights, data order and all noise
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Score each setting with the sampling noise of N seeds, SEED and those after it [default: 1]
    #[arg(long, value_name = "N")]
    pub seeds: Option<u64>,

    /// Passes over the training images
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,

    /// Images in a training step
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,

    /// Peak learning rate of the one-cycle schedule
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,

    /// Decay of the exponential moving average of the weights, which sampling uses
    #[arg(long, value_name = "DECAY")]
    pub ema_decay: Option<f64>,

    /// The network's channels at each level, as in 32,64,128,256
    #[arg(long, value_delimiter = ',', value_name = "CHANNELS")]
    pub blocks: Option<Vec<usize>>,

    /// Residual blocks at each level
    #[arg(long, value_name = "N")]
    pub layers_per_block: Option<usize>,

    /// Levels with attention, counted from 0, as in 1,2,3; "none" for none
    #[arg(long, value_name = "LEVELS")]
    pub attention: Option<String>,

    /// Channels of each attention head
    #[arg(long, value_name = "N")]
    pub attention_head_dim: Option<usize>,

    /// Samples drawn for each setting
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,

    /// Extrapolate each FID to infinitely many samples (Chong & Forsyth 2020), and draw FID over 1/n
    #[arg(long)]
    pub fid_infinity: bool,

    /// Train on the first N images only
    #[arg(long, value_name = "N")]
    pub train_images: Option<usize>,

    /// Test and score against the first N test images only
    #[arg(long, value_name = "N")]
    pub test_images: Option<usize>,

    /// Where to compute: cpu, cuda or auto
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,

    /// Threads on the CPU [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Images that go through the network together when sampling; the samples do not depend on it
    /// [default: 32 on a CPU, 1024 on CUDA]
    #[arg(long, value_name = "N")]
    pub sampling_batch_size: Option<usize>,

    /// Compute with candle's own ops on the CPU too, instead of this project's kernels
    #[arg(long)]
    pub candle_ops: bool,

    /// A folder with the four IDX files of Fashion-MNIST, plain or gzipped [default: the environment's
    /// FASHION_MNIST_DIR, else data/fashion-mnist, else where Debian's package installs it]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The run's folder [default: results/EXPERIMENT/PRESET-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Go on with this run, which was stopped: the command that began it, from its last checkpoint and with the samples
    /// that are scored already
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,

    /// Minutes of training between checkpoints, besides those at each epoch's end
    #[arg(long, value_name = "MINUTES", default_value_t = 3.0)]
    pub checkpoint_minutes: f64,

    /// Skip training: sample this model, a folder with config.json and diffusion_pytorch_model.safetensors
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "epochs", "batch_size", "lr", "ema_decay", "blocks", "layers_per_block", "attention",
        "attention_head_dim",
    ])]
    pub checkpoint: Option<PathBuf>,

    /// Write each setting's samples as samples/SETTING.safetensors
    #[arg(long)]
    pub save_samples: bool,
}

/// The own options of an experiment that has none which its training depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoOwnOptions {}

/// The options after the preset has filled them in: all that a run's training depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where the values that were not given come from.
    pub preset: Preset,
    /// The run's seed.
    pub seed: u64,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a training step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the weights' moving average.
    pub ema_decay: f64,
    /// The network's channels at each level.
    pub blocks: Vec<usize>,
    /// Residual blocks at each level.
    pub layers_per_block: usize,
    /// Levels with attention.
    pub attention: Vec<usize>,
    /// Channels of each attention head.
    pub attention_head_dim: usize,
    /// Samples drawn for each setting.
    pub samples: usize,
    /// Seeds of sampling noise that each setting is scored with, `seed` and those after it.
    #[serde(default = "one_seed")]
    pub seeds: u64,
    /// Whether each FID is extrapolated to infinitely many samples.
    #[serde(default)]
    pub fid_infinity: bool,
    /// Training images used.
    pub train_images: usize,
    /// Test images used.
    pub test_images: usize,
}

impl Settings {
    /// The values of a preset, as 22_cosine has them.
    pub fn preset(preset: Preset, seed: u64) -> Self {
        match preset {
            Preset::Smoke => Self {
                preset,
                epochs: 2,
                batch_size: 64,
                ema_decay: 0.9,
                blocks: vec![8, 16, 16],
                layers_per_block: 1,
                attention: vec![2],
                samples: 48,
                train_images: 256,
                test_images: 128,
                ..Self::preset(Preset::Lesson, seed)
            },
            Preset::Quick => Self {
                preset,
                epochs: 8,
                batch_size: 32,
                ema_decay: 0.9975,
                blocks: vec![16, 16, 32, 64],
                layers_per_block: 1,
                attention: vec![],
                ..Self::preset(Preset::Lesson, seed)
            },
            Preset::Lesson => Self {
                preset,
                seed,
                epochs: 25,
                batch_size: 512,
                lr: 4e-3,
                ema_decay: 0.999,
                blocks: vec![32, 64, 128, 256],
                layers_per_block: 2,
                attention: vec![1, 2, 3],
                attention_head_dim: 8,
                samples: 2048,
                seeds: 1,
                fid_infinity: false,
                train_images: 60_000,
                test_images: 10_000,
            },
        }
    }

    /// The preset, first as the experiment changes it, then with every value replaced that `options` gives.
    ///
    /// # Errors
    /// When a value is impossible: one line that names the option and what it may be.
    pub fn resolve(options: &RunOptions, on_cuda: bool, experiment: impl FnOnce(&mut Self)) -> Result<Self> {
        let default = if on_cuda { Preset::Lesson } else { Preset::Quick };
        let mut settings = Self::preset(options.preset.unwrap_or(default), options.seed);
        experiment(&mut settings);
        let o = options.clone();
        settings.epochs = o.epochs.unwrap_or(settings.epochs);
        settings.batch_size = o.batch_size.unwrap_or(settings.batch_size);
        settings.lr = o.lr.unwrap_or(settings.lr);
        settings.ema_decay = o.ema_decay.unwrap_or(settings.ema_decay);
        settings.layers_per_block = o.layers_per_block.unwrap_or(settings.layers_per_block);
        settings.samples = o.samples.unwrap_or(settings.samples);
        settings.seeds = o.seeds.unwrap_or(settings.seeds);
        settings.fid_infinity = o.fid_infinity;
        settings.train_images = o.train_images.unwrap_or(settings.train_images);
        settings.test_images = o.test_images.unwrap_or(settings.test_images);
        if let Some(blocks) = o.blocks {
            settings.attention.retain(|&level| level < blocks.len());
            settings.blocks = blocks;
        }
        if let Some(levels) = o.attention {
            settings.attention = parse_levels(&levels)?;
        }
        settings.attention_head_dim = o.attention_head_dim.unwrap_or(settings.attention_head_dim);
        settings.check()?;
        Ok(settings)
    }

    /// The seeds of sampling noise that each setting is scored with.
    pub fn sampling_seeds(&self) -> Range<u64> {
        self.seed..self.seed + self.seeds
    }

    /// Refuses values that are impossible.
    ///
    /// # Errors
    /// One line that names the option and what it may be.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            self.epochs > 0,
            "--epochs 0 trains nothing: give at least 1, or skip training with --checkpoint DIR"
        );
        ensure!(self.batch_size > 0, "--batch-size 0 is impossible: give at least 1");
        ensure!(self.lr.is_finite() && self.lr > 0.0, "--lr {} is impossible: give a rate above 0", self.lr);
        ensure!(
            (0.0..1.0).contains(&self.ema_decay),
            "--ema-decay {} is impossible: give 0 up to below 1",
            self.ema_decay
        );
        ensure!(self.samples > 7, "--samples {} is too few: KID's four chunks need at least 8", self.samples);
        ensure!(self.seeds > 0, "--seeds 0 is impossible: give at least 1");
        ensure!(self.seed.checked_add(self.seeds).is_some(), "--seed {} is too large", self.seed);
        ensure!(self.layers_per_block > 0, "--layers-per-block 0 is impossible: give at least 1");
        ensure!(
            (2..=60_000).contains(&self.train_images),
            "--train-images {} is impossible: give 2 to 60000",
            self.train_images
        );
        ensure!(
            (2..=10_000).contains(&self.test_images),
            "--test-images {} is impossible: give 2 to 10000",
            self.test_images
        );
        ensure!(
            self.samples <= self.train_images,
            "--samples {} is more than the {} training images that the floor is measured with",
            self.samples,
            self.train_images
        );
        ensure!(
            !self.blocks.is_empty() && self.blocks.len() <= 6,
            "--blocks needs one to six levels: a 32×32 image can be halved five times"
        );
        for &channels in &self.blocks {
            ensure!(
                channels > 0 && channels % 8 == 0,
                "--blocks {channels}: each must be a multiple of the 8 norm groups"
            );
        }
        for &level in &self.attention {
            ensure!(
                level < self.blocks.len(),
                "--attention {level}: there are only levels 0 to {}",
                self.blocks.len() - 1
            );
        }
        // Where any level attends, the middle block does too, with the last level's channels.
        let middle = self.attention.first().map(|_| self.blocks.len() - 1);
        for level in self.attention.iter().copied().chain(middle) {
            let channels = self.blocks[level];
            ensure!(
                channels.is_multiple_of(self.attention_head_dim),
                "--attention-head-dim {} does not divide the {channels} channels of level {level}",
                self.attention_head_dim
            );
        }
        Ok(())
    }

    /// The UNet of these settings.
    pub fn unet(&self) -> UNet2DConfig {
        UNet2DConfig {
            attention_head_dim: Some(self.attention_head_dim),
            ..UNet2DConfig::with_blocks(&self.blocks, self.layers_per_block, &self.attention)
        }
    }
}

fn one_seed() -> u64 {
    1
}

fn parse_levels(text: &str) -> Result<Vec<usize>> {
    if text == "none" {
        return Ok(vec![]);
    }
    let level = |part: &str| {
        part.trim().parse().with_context(|| format!("--attention {text}: give levels such as 1,2,3, or none"))
    };
    let levels: Vec<usize> = text.split(',').map(level).collect::<Result<_>>()?;
    if levels.is_empty() {
        bail!("--attention is empty: give levels such as 1,2,3, or none");
    }
    Ok(levels)
}
