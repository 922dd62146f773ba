//! The command line of exp-truncation and the settings that it measures.

use anyhow::{Result, ensure};
use clap::Parser;
use elucidate_lab::run::options::{Preset, RunOptions, Settings};
use elucidate_lab::run::program::CommandLine;
use elucidate_samplers::{Sampler, Setting};
use elucidate_schedules::Preconditioning;
use serde::{Deserialize, Serialize};

/// Measure samplers by their error on the probability flow ODE itself, without FID: for the ideal denoiser of the training images,
/// which needs no training, and for a model of exp-23-karras.
///
/// Everything lands in the run's folder: run.json, errors.csv, choices.csv, local errors, charts (*.png) and log.txt. --samples are the
/// images whose paths are followed, --train-images those that the ideal denoiser knows, --checkpoint the model [default: the newest
/// of results/23_karras, of the same preset where there is one].
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-truncation", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,

    #[command(flatten)]
    pub own: OwnOptions,
}

/// Options of its own.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub struct OwnOptions {
    /// Steps of Heun's method that make the reference solution; half as many check it [default: 256, with smoke 64]
    #[arg(long, help_heading = "The reference", value_name = "N")]
    pub reference_steps: Option<usize>,
}

impl CommandLine for Options {
    const EXPERIMENT: &'static str = "truncation";

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

impl Options {
    /// # Errors
    /// When an option is given that nothing here has a use for, or is impossible.
    pub fn check(&self) -> Result<()> {
        let run = &self.run;
        for (option, given) in [
            ("--epochs", run.training.epochs.is_some()),
            ("--batch-size", run.training.batch_size.is_some()),
            ("--lr", run.training.lr.is_some()),
            ("--ema-decay", run.training.ema_decay.is_some()),
            ("--blocks", run.training.blocks.is_some()),
            ("--layers-per-block", run.training.layers_per_block.is_some()),
            ("--attention", run.training.attention.is_some()),
            ("--attention-head-dim", run.training.attention_head_dim.is_some()),
            ("--test-images", run.scoring.test_images.is_some()),
            ("--fid-infinity", run.scoring.fid_infinity.is_some()),
            ("--fid-every", run.scoring.fid_every.is_some()),
            ("--seeds", run.scoring.seeds.is_some()),
            ("--save-samples", run.save_samples),
        ] {
            ensure!(!given, "{option} is for the experiments that train and score");
        }
        if let Some(steps) = self.own.reference_steps {
            ensure!(
                (64..=100_000).contains(&steps),
                "--reference-steps {steps} is impossible: give 64 to 100000"
            );
        }
        Ok(())
    }
}

/// 16 images' paths, of smoke eight.
pub fn preset(settings: &mut Settings) {
    settings.scoring.samples = if settings.preset == Preset::Smoke { 8 } else { 16 };
}

/// The steps of the reference solution.
pub fn reference_steps(own: &OwnOptions, preset: Preset) -> usize {
    own.reference_steps.unwrap_or(if preset == Preset::Smoke { 64 } else { 256 })
}

/// At most so many network evaluations.
pub fn budgets(preset: Preset) -> &'static [usize] {
    if preset == Preset::Smoke { &[10, 20] } else { &[10, 20, 40, 80] }
}

/// Tolerances of `dpm_adaptive`, which finds its own number of evaluations.
pub const TOLERANCES: [f64; 8] = [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005];

/// The noise levels at which paths are compared: before the ideal denoiser has chosen an image, and at the end.
pub const ENDS: [f64; 2] = [1.0, 0.0];

/// The samplers that solve the ODE, as a setting has them. At η 0 `euler_ancestral` and `ddim` are `euler`, `dpm_2_ancestral` is
/// `dpm_2`, `dpmpp_sde` is `dpmpp_2s_ancestral`, and `dpmpp_2m_sde` is `dpmpp_2m`.
pub fn deterministic() -> Vec<String> {
    let other = [
        "euler_ancestral",
        "ddim",
        "dpm_2_ancestral",
        "dpmpp_sde",
        "dpmpp_2m_sde",
        // Their evaluations are no matter of steps.
        "dpm_fast",
        "dpm_adaptive",
    ];
    let all = Sampler::ALL.iter().filter(|info| !other.contains(&info.name));
    all.map(|info| {
        let has_eta = info.options.iter().any(|option| option.name == "eta");
        format!("{}{}", info.name, if has_eta { " eta=0" } else { "" })
    })
    .collect()
}

/// `sampler` with as many steps down to `end` as `budget` evaluations allow; `more` are further options.
///
/// # Errors
/// When an option is impossible.
pub fn within(
    sampler: &str,
    budget: usize,
    end: f64,
    more: &str,
    model: &Preconditioning,
) -> Result<Setting> {
    let with = |steps: usize| Setting::parse(&format!("{sampler} steps={steps} {more}"), model);
    let sampler = with(2)?.sampler;
    let fits = |steps: &usize| {
        let nfe = match end > 0.0 {
            // One σ less, so one step less, all of them whole: those of some samplers are shorter where they go to 0.
            true => sampler.nfe(3).zip(sampler.nfe(2)).map(|(three, two)| (three - two) * (steps - 1)),
            false => sampler.nfe(*steps),
        };
        nfe.is_some_and(|nfe| nfe <= budget)
    };
    Ok(with((2..=budget).rev().find(fits).unwrap_or(2))?)
}
