//! The command line of exp-22-cosine and the settings that it samples.

use clap::Parser;
use elucidate_lab::evaluate::one_setting::OneSetting;
use elucidate_lab::run::options::{Preset, RunOptions};
use elucidate_lab::run::program::CommandLine;
use elucidate_samplers::{Ddim, Euler, Heun, Lms, Sampler, Setting};
use elucidate_schedules::DdimSteps;

/// Train the UNet on Fashion-MNIST to predict the noise along the cosine schedule, sample with DDIM and, without
/// retraining, with the samplers of Karras 2022, score with FID and KID.
///
/// Everything lands in the run's folder: run.json, train.csv, samples.csv, charts and pictures (*.png), model/,
/// checkpoint/ and log.txt. With --sampler or --setting only these are sampled, instead of the notebook's list.
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-22-cosine", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,

    #[command(flatten)]
    pub own: OneSetting,
}

impl CommandLine for Options {
    const EXPERIMENT: &'static str = "22_cosine";

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

/// The lesson's DDIM with 100 and 50 steps, each with η 1, 0.5 and 0.
pub fn ddim_settings(preset: Preset) -> Vec<Setting> {
    // ±1.5 on pixels x − ½ is ±3 on those of [−1,1].
    let setting = |steps, eta| Setting {
        sampler: Ddim { eta, clamp: 3.0, floor: 0.01, scale: 0.5 }.into(),
        sigma_steps: DdimSteps { steps: preset.steps(steps) }.into(),
    };
    [100, 50].into_iter().flat_map(|steps| [1.0, 0.5, 0.0].map(|eta| setting(steps, eta))).collect()
}

/// Karras's samplers over his σ steps, about 100 and 50 evaluations each: Euler, LMS and Heun.
pub fn karras_settings(preset: Preset) -> Vec<Setting> {
    let (euler, lms, heun): (Sampler, Sampler, Sampler) =
        (Euler::default().into(), Lms::default().into(), Heun::default().into());
    let all =
        [(euler.clone(), 100), (lms.clone(), 100), (heun.clone(), 50), (euler, 50), (lms, 50), (heun, 25)];
    all.map(|(sampler, steps)| Setting::notebook(sampler, preset.steps(steps))).into()
}
