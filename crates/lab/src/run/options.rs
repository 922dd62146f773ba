//! The options that every experiment has, and the presets that fill in what is not given.

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use elucidate_core::device::DeviceChoice;
use elucidate_core::unet::UNet2DConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

/// A set of values for everything that is not given by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Everything within 20 seconds, to see that it runs; the figures mean nothing.
    Smoke,
    /// The UNet and recipe that do best in ten minutes of training on two cores with AVX-512. The default on a CPU.
    Quick,
    /// The UNet and recipe that do best in two to three hours on such cores.
    Long,
    /// The notebook's values. The default on CUDA.
    Lesson,
}

impl Preset {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Long => "long",
            Self::Lesson => "lesson",
        }
    }

    /// The notebook's number of sampling steps, a tenth of it for smoke.
    pub fn steps(self, notebook: usize) -> usize {
        if self == Self::Smoke { (notebook / 10).max(3) } else { notebook }
    }
}

/// Defines options that a preset fills in, twice: as the command line has them, each given or not, and with all of them filled in.
/// A new one is a line here, and its value in the preset.
macro_rules! filled_in_by_presets {
    (
        $(#[$of_all:meta])* pub struct $all:ident;
        $(#[$of_given:meta])* pub struct $given:ident, $heading:literal;
        $( $(#[doc = $help:literal])+ #[arg($($arg:tt)*)] $(#[serde($($serde:tt)*)])? $field:ident: $type:ty, )*
    ) => {
        $(#[$of_all])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $all {
            $( $(#[doc = $help])+ $(#[serde($($serde)*)])? pub $field: $type, )*
        }

        $(#[$of_given])*
        #[derive(Debug, Clone, Default, Args)]
        #[command(next_help_heading = $heading)]
        pub struct $given {
            $( $(#[doc = $help])+ #[arg(long, $($arg)*)] pub $field: Option<$type>, )*
        }

        impl $all {
            /// Replaces the values that are given.
            fn overlay(&mut self, given: &$given) {
                $( if let Some(value) = &given.$field { self.$field.clone_from(value); } )*
            }
        }
    };
}

filled_in_by_presets! {
    /// What a training depends on.
    pub struct TrainingSettings;
    /// What a training depends on, as far as it is given.
    pub struct TrainingOptions, "Training";

    /// Passes over the training images
    #[arg(value_name = "N", allow_negative_numbers = true)]
    epochs: usize,

    /// Images in a training step
    #[arg(value_name = "N", allow_negative_numbers = true)]
    batch_size: usize,

    /// Peak learning rate of the one-cycle schedule
    #[arg(value_name = "RATE", allow_negative_numbers = true)]
    lr: f64,

    /// Decay of the exponential moving average of the weights, which sampling uses
    #[arg(value_name = "DECAY", allow_negative_numbers = true)]
    ema_decay: f64,

    /// The network's channels at each level, as in 32,64,128,256
    #[arg(value_delimiter = ',', value_name = "CHANNELS", allow_negative_numbers = true)]
    blocks: Vec<usize>,

    /// Residual blocks at each level
    #[arg(value_name = "N", allow_negative_numbers = true)]
    layers_per_block: usize,

    /// Levels with attention, counted from 0, as in 1,2,3; "none" for none
    #[arg(value_name = "LEVELS", allow_negative_numbers = true)]
    attention: Levels,

    /// Channels of each attention head
    #[arg(value_name = "N", allow_negative_numbers = true)]
    attention_head_dim: usize,

    /// Train on the first N images only
    #[arg(value_name = "N", allow_negative_numbers = true)]
    train_images: usize,
}

filled_in_by_presets! {
    /// What samples are drawn for each setting, and how they are scored.
    pub struct ScoringSettings;
    /// What samples are drawn and how they are scored, as far as it is given.
    pub struct ScoringOptions, "Sampling and scoring";

    /// Samples drawn for each setting
    #[arg(value_name = "N", allow_negative_numbers = true)]
    samples: usize,

    /// Score each setting with the sampling noise of N seeds, SEED and those after it [default: 1]
    #[arg(value_name = "N", allow_negative_numbers = true)]
    #[serde(default = "one_seed")]
    seeds: u64,

    /// Extrapolate each FID to infinitely many samples (Chong & Forsyth 2020), and draw FID over 1/n
    #[arg(num_args = 0, default_missing_value = "true")]
    #[serde(default)]
    fid_infinity: bool,

    /// While training, measure FID of 512 samples every N epochs, by Heun's method with 10 steps, of smoke 3
    /// [default: 0, never]
    #[arg(value_name = "N", allow_negative_numbers = true)]
    #[serde(default)]
    fid_every: usize,

    /// Test and score against the first N test images only
    #[arg(value_name = "N", allow_negative_numbers = true)]
    test_images: usize,
}

/// Levels of the network, counted from 0; as text `1,2,3`, or `none`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Levels(pub Vec<usize>);

impl FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        let level =
            |part: &str| part.trim().parse().map_err(|_| "give levels such as 1,2,3, or none".to_string());
        text.split(',').map(level).collect::<Result<_, _>>().map(Self)
    }
}

/// Options of every experiment; what is not given comes from the preset.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// Values for all that is not given by itself: smoke takes seconds, quick trains for ten minutes, long for two to three hours,
    /// lesson is the notebook's [default: quick on a CPU, lesson on CUDA]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,

    /// The run's seed: initial weights, data order and all noise
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,

    /// What the training depends on.
    #[command(flatten)]
    pub training: TrainingOptions,

    /// How it is sampled and scored.
    #[command(flatten)]
    pub scoring: ScoringOptions,

    /// Where to compute: cpu, cuda or auto
    #[arg(long, help_heading = "The run", default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,

    /// Threads on the CPU [default: one a core]
    #[arg(long, help_heading = "The run", value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,

    /// Images that go through the network together when sampling; the samples do not depend on it
    /// [default: 32 on a CPU, 1024 on CUDA]
    #[arg(long, help_heading = "Sampling and scoring", value_name = "N", allow_negative_numbers = true)]
    pub sampling_batch_size: Option<usize>,

    /// Compute with candle's own ops on the CPU too, instead of this project's kernels
    #[arg(long, help_heading = "The run")]
    pub candle_ops: bool,

    /// A folder with the four IDX files of Fashion-MNIST, plain or gzipped [default: the environment's
    /// FASHION_MNIST_DIR, else data/fashion-mnist, else where Debian's package installs it]
    #[arg(long, help_heading = "The run", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Score with this classifier, a safetensors file that `just train-classifier` made [default: the one in the program]
    #[arg(long, help_heading = "Sampling and scoring", value_name = "FILE")]
    pub classifier: Option<PathBuf>,

    /// The run's folder [default: results/EXPERIMENT/PRESET-TIME]
    #[arg(long, help_heading = "The run", value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Go on with this run, which was stopped: the command that began it, from its last checkpoint and with the samples
    /// that are scored already
    #[arg(long, help_heading = "The run", value_name = "RUN")]
    pub resume: Option<PathBuf>,

    /// Minutes of training between checkpoints, besides those at each epoch's end
    #[arg(
        long,
        help_heading = "Training",
        value_name = "MINUTES",
        default_value_t = 3.0,
        allow_negative_numbers = true
    )]
    pub checkpoint_minutes: f64,

    /// Skip training: sample this model, a folder as diffusers saves it: config.json and
    /// diffusion_pytorch_model.safetensors, or a pipeline's with them in unet/
    #[arg(long, help_heading = "The run", value_name = "DIR", conflicts_with_all = [
        "epochs", "batch_size", "lr", "ema_decay", "blocks", "layers_per_block", "attention",
        "attention_head_dim", "fid_every",
    ])]
    pub checkpoint: Option<PathBuf>,

    /// Check the options, print what they come to with the preset as JSON, and end
    #[arg(long, help_heading = "The run", conflicts_with = "resume")]
    pub dry_run: bool,

    /// Write each setting's samples as samples/SETTING.safetensors
    #[arg(long, help_heading = "Sampling and scoring")]
    pub save_samples: bool,
}

impl RunOptions {
    /// The preset that is asked for, else the device's own: lesson on CUDA, quick on a CPU.
    pub fn preset_on(&self, on_cuda: bool) -> Preset {
        self.preset.unwrap_or(if on_cuda { Preset::Lesson } else { Preset::Quick })
    }

    /// Where to compute.
    ///
    /// # Errors
    /// With `--device cuda` where there is none.
    pub(crate) fn open_device(&self) -> Result<Device> {
        self.device.open().context("--device cuda: this build or machine has none")
    }
}

/// The own options of an experiment that has none which its training depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoOwnOptions {}

/// The options after the preset has filled them in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where the values that were not given come from.
    pub preset: Preset,
    /// The run's seed.
    pub seed: u64,
    /// What the training depends on.
    #[serde(flatten)]
    pub training: TrainingSettings,
    /// How it is sampled and scored.
    #[serde(flatten)]
    pub scoring: ScoringSettings,
}

impl Settings {
    /// The values of a preset, as 22_cosine has them.
    pub fn preset(preset: Preset, seed: u64) -> Self {
        let scoring = ScoringSettings {
            samples: 2048,
            seeds: 1,
            fid_infinity: false,
            fid_every: 0,
            test_images: 10_000,
        };
        let training = TrainingSettings {
            epochs: 25,
            batch_size: 512,
            lr: 4e-3,
            ema_decay: 0.999,
            blocks: vec![32, 64, 128, 256],
            layers_per_block: 2,
            attention: Levels(vec![1, 2, 3]),
            attention_head_dim: 8,
            train_images: 60_000,
        };
        let (training, scoring) = match preset {
            Preset::Lesson => (training, scoring),
            Preset::Quick => (
                TrainingSettings {
                    epochs: 8,
                    batch_size: 32,
                    ema_decay: 0.9975,
                    blocks: vec![16, 16, 32, 64],
                    layers_per_block: 1,
                    attention: Levels::default(),
                    ..training
                },
                scoring,
            ),
            Preset::Long => (
                TrainingSettings {
                    epochs: 40,
                    batch_size: 32,
                    lr: 3e-3,
                    blocks: vec![32, 64, 128, 128],
                    layers_per_block: 1,
                    attention: Levels::default(),
                    ..training
                },
                scoring,
            ),
            Preset::Smoke => (
                TrainingSettings {
                    epochs: 2,
                    batch_size: 64,
                    ema_decay: 0.9,
                    blocks: vec![8, 16, 16],
                    layers_per_block: 1,
                    attention: Levels(vec![2]),
                    train_images: 256,
                    ..training
                },
                ScoringSettings { samples: 48, test_images: 128, ..scoring },
            ),
        };
        Self { preset, seed, training, scoring }
    }

    /// The preset, first as the experiment changes it, then with every value replaced that `options` gives.
    ///
    /// # Errors
    /// When a value is impossible: one line that names the option and what it may be.
    pub fn resolve(options: &RunOptions, on_cuda: bool, experiment: impl FnOnce(&mut Self)) -> Result<Self> {
        let mut settings = Self::preset(options.preset_on(on_cuda), options.seed);
        experiment(&mut settings);
        if let Some(blocks) = &options.training.blocks {
            settings.training.attention.0.retain(|&level| level < blocks.len());
        }
        settings.training.overlay(&options.training);
        settings.scoring.overlay(&options.scoring);
        settings.check()?;
        Ok(settings)
    }

    /// The seeds of sampling noise that each setting is scored with.
    pub fn sampling_seeds(&self) -> Range<u64> {
        self.seed..self.seed + self.scoring.seeds
    }

    /// Refuses values that are impossible.
    ///
    /// # Errors
    /// One line that names the option and what it may be.
    pub(crate) fn check(&self) -> Result<()> {
        self.training.check()?;
        self.training.check_network()?;
        self.scoring.check()?;
        let ScoringSettings { samples, seeds, fid_every, .. } = self.scoring;
        let epochs = self.training.epochs;
        ensure!(fid_every <= epochs, "--fid-every {fid_every} never comes: the training has {epochs} epochs");
        ensure!(self.seed.checked_add(seeds).is_some(), "--seed {} is too large", self.seed);
        ensure!(
            samples <= self.training.train_images,
            "--samples {samples} is more than the {} training images that the floor is measured with",
            self.training.train_images
        );
        Ok(())
    }
}

impl TrainingSettings {
    fn check(&self) -> Result<()> {
        let Self { epochs, batch_size, lr, ema_decay, train_images, .. } = *self;
        ensure!(
            epochs > 0,
            "--epochs 0 trains nothing: give at least 1, or skip training with --checkpoint DIR"
        );
        ensure!(batch_size > 0, "--batch-size 0 is impossible: give at least 1");
        ensure!(lr.is_finite() && lr > 0.0, "--lr {lr} is impossible: give a rate above 0");
        ensure!(
            (0.0..1.0).contains(&ema_decay),
            "--ema-decay {ema_decay} is impossible: give 0 up to below 1"
        );
        ensure!(
            (2..=60_000).contains(&train_images),
            "--train-images {train_images} is impossible: give 2 to 60000"
        );
        Ok(())
    }

    fn check_network(&self) -> Result<()> {
        let Self { blocks, layers_per_block, attention: Levels(attention), attention_head_dim, .. } = self;
        ensure!(
            (1..=16).contains(layers_per_block),
            "--layers-per-block {layers_per_block} is impossible: give 1 to 16"
        );
        ensure!(
            !blocks.is_empty() && blocks.len() <= 6,
            "--blocks needs one to six levels: a 32×32 image can be halved five times"
        );
        for &channels in blocks {
            ensure!(
                channels > 0 && channels % 8 == 0,
                "--blocks {channels}: each must be a multiple of the 8 norm groups"
            );
        }
        for level in attention {
            ensure!(
                *level < blocks.len(),
                "--attention {level}: there are only levels 0 to {}",
                blocks.len() - 1
            );
        }
        // Where any level attends, the middle block does too, with the last level's channels.
        let middle = attention.first().map(|_| blocks.len() - 1);
        for level in attention.iter().copied().chain(middle) {
            let channels = blocks[level];
            ensure!(
                channels.is_multiple_of(*attention_head_dim),
                "--attention-head-dim {attention_head_dim} does not divide the {channels} channels of level {level}"
            );
        }
        Ok(())
    }

    /// The UNet of these settings.
    pub fn unet(&self) -> UNet2DConfig {
        UNet2DConfig {
            attention_head_dim: Some(self.attention_head_dim),
            ..UNet2DConfig::with_blocks(&self.blocks, self.layers_per_block, &self.attention.0)
        }
    }
}

impl ScoringSettings {
    fn check(&self) -> Result<()> {
        let Self { samples, seeds, test_images, .. } = *self;
        ensure!(samples > 7, "--samples {samples} is too few: KID's four chunks need at least 8");
        ensure!((1..=1000).contains(&seeds), "--seeds {seeds} is impossible: give 1 to 1000");
        ensure!(
            (8..=10_000).contains(&test_images),
            "--test-images {test_images} is impossible: give 8, for KID's four chunks, to 10000"
        );
        Ok(())
    }
}

/// The clap parser of a choice that is serialised as one of `names`.
pub fn by_name<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value(Value::String(name)))
}

fn one_seed() -> u64 {
    1
}
