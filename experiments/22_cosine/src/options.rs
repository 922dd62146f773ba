//! The command line of exp-22-cosine and the settings that it samples.

use clap::Parser;
use elucidate_lab::ddim::DdimSetting;
use elucidate_lab::one_setting::{OneSetting, X0_CLAMP, churn};
use elucidate_lab::options::{Preset, RunOptions};
use elucidate_lab::program::CommandLine;
use elucidate_lab::sampling::Setting;
use elucidate_samplers::{Ddim, Sampler};

/// Train the UNet on Fashion-MNIST to predict the noise along the cosine schedule, sample with DDIM and, without
/// retraining, with the samplers of Karras 2022, score with FID and KID.
///
/// Everything lands in the run's folder: run.json, train.csv, samples.csv, charts and pictures (*.png), model/,
/// checkpoint/ and log.txt. With --sampler only that one setting is sampled, instead of the notebook's list.
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-22-cosine", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,

    #[command(flatten)]
    pub one: OneSetting,
}

impl CommandLine for Options {
    const EXPERIMENT: &'static str = "22_cosine";

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

/// DDIM with 100 and 50 steps, each with η 1, 0.5 and 0.
pub fn ddim_settings(preset: Preset) -> Vec<DdimSetting> {
    let setting = |steps, eta| DdimSetting {
        steps: preset.steps(steps),
        options: Ddim { eta, x0_clamp: X0_CLAMP },
        estimates: None,
    };
    [100, 50].into_iter().flat_map(|steps| [1.0, 0.5, 0.0].map(|eta| setting(steps, eta))).collect()
}

/// Karras's samplers over his σ steps, about 100 and 50 evaluations each: Euler, LMS and Heun.
pub fn karras_settings(preset: Preset) -> Vec<Setting> {
    let setting = |sampler, steps| Setting::notebook(sampler, preset.steps(steps));
    let heun = Sampler::Heun { churn: churn(0.0) };
    let lms = Sampler::Lms { order: 4 };
    vec![
        setting(Sampler::Euler, 100),
        setting(lms, 100),
        setting(heun, 50),
        setting(Sampler::Euler, 50),
        setting(lms, 50),
        setting(heun, 25),
    ]
}
