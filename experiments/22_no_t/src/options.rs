//! The command line of exp-22-no-t and the settings that it samples.

use crate::ddim::{Ddim, DdimSetting, Estimates, SigmaRule, X0_CLAMP, X0_CLAMP_ESTIMATED};
use anyhow::{Result, ensure};
use clap::Parser;
use elucidate_lab::run::options::{Preset, RunOptions};
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::model::newest;
use elucidate_lab::train::noise_level;
use elucidate_report::RunRecord;
use elucidate_schedules::SigmaSteps;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Train the UNet to predict the noise without telling it the time; sample it with plain DDIM and with estimates of the noise
/// level; score with FID and KID, along the way too.
///
/// Everything lands in the run's folder: run.json, train.csv, samples.csv, charts and pictures (*.png), model/,
/// checkpoint/ and log.txt. It needs a model of 22_cosine and one of 22_noise_pred.
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-22-no-t", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,

    /// The model folder of a run of 22_cosine [default: that of the newest finished run in results/22_cosine, of the
    /// same preset where there is one]
    #[arg(long, value_name = "DIR")]
    pub cosine: Option<PathBuf>,

    /// The model folder of a run of 22_noise_pred [default: that of the newest finished run in
    /// results/22_noise_pred, of the same preset where there is one]
    #[arg(long, value_name = "DIR")]
    pub noise_pred: Option<PathBuf>,

    /// Steps of DDIM [default: 100; 10 with the smoke preset]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub steps: Option<usize>,
}

impl CommandLine for Options {
    const EXPERIMENT: &'static str = "22_no_t";

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

impl Options {
    /// # Errors
    /// When a value is impossible.
    pub fn check(&self) -> Result<()> {
        let (least, most) = (2, SigmaSteps::MOST);
        if let Some(steps) = self.steps {
            ensure!((least..=most).contains(&steps), "--steps {steps} is impossible: give {least} to {most}");
        }
        Ok(())
    }

    /// The folders of the models of 22_cosine and 22_noise_pred; with --resume, those that the run began with.
    ///
    /// # Errors
    /// When one is not given and there is no run to take it from.
    pub fn models(&self) -> Result<(PathBuf, PathBuf)> {
        let began_with = match &self.run.resume {
            Some(run) => RunRecord::read(run)?.models,
            None => BTreeMap::new(),
        };
        let or_newest =
            |given: &Option<PathBuf>, experiment, option| match (given, began_with.get(experiment)) {
                (Some(dir), _) => Ok(dir.clone()),
                (None, Some(model)) => Ok(PathBuf::from(&model.folder)),
                (None, None) => newest(experiment, &self.run, option),
            };
        Ok((
            or_newest(&self.cosine, "22_cosine", "--cosine")?,
            or_newest(&self.noise_pred, noise_level::EXPERIMENT, "--noise-pred")?,
        ))
    }

    /// Steps of DDIM.
    pub fn steps(&self, preset: Preset) -> usize {
        self.steps.unwrap_or(preset.steps(100))
    }
}

/// The pixels x − ½ are all within ± this.
pub const PIXELS: f64 = 0.5;

/// Plain DDIM, as 22_cosine has it.
pub fn plain(steps: usize) -> DdimSetting {
    DdimSetting { steps, options: Ddim { eta: 1.0, x0_clamp: X0_CLAMP }, estimates: None }
}

/// The same with x̂₀ clamped to ± `x0_clamp`; infinite for no clamp.
pub fn x0_within(x0_clamp: f64, setting: DdimSetting) -> DdimSetting {
    DdimSetting { options: Ddim { x0_clamp, ..setting.options }, ..setting }
}

/// DDIM with estimates of the noise level near their median: the notebook's fix.
pub fn mended(steps: usize, eta: f64) -> DdimSetting {
    with(steps, eta, Estimates { near_median: Some(2.0), sigma: SigmaRule::Schedule })
}

/// The fix with its clamp at `factor` instead of 2.
pub fn clamped_within(steps: usize, factor: f64) -> DdimSetting {
    with(steps, 1.0, Estimates { near_median: Some(factor), sigma: SigmaRule::Schedule })
}

/// The fix without its clamp.
pub fn not_clamped(steps: usize) -> DdimSetting {
    with(steps, 1.0, Estimates { near_median: None, sigma: SigmaRule::Schedule })
}

/// The notebook's variants of the fix (other η, σ from the median's ᾱ̂, σ halved, no clamp), and plain DDIM as an earlier version
/// of it had it: x̂₀ not clamped.
pub fn variants(steps: usize) -> Vec<DdimSetting> {
    let sigma = |sigma| with(steps, 1.0, Estimates { near_median: Some(2.0), sigma });
    vec![
        mended(steps, 0.5),
        mended(steps, 0.0),
        sigma(SigmaRule::Median),
        sigma(SigmaRule::Halved),
        not_clamped(steps),
        x0_within(f64::INFINITY, plain(steps)),
    ]
}

fn with(steps: usize, eta: f64, estimates: Estimates) -> DdimSetting {
    DdimSetting { steps, options: Ddim { eta, x0_clamp: X0_CLAMP_ESTIMATED }, estimates: Some(estimates) }
}
