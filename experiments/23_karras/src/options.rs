//! The command line of exp-23-karras and the settings that it samples.

use anyhow::{Context, Result};
use clap::{Args, Parser};
use elucidate_lab::evaluate::one_setting::OneSetting;
use elucidate_lab::run::options::{Preset, RunOptions, by_name};
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::objective::Choices;
use elucidate_samplers::{Euler, EulerAncestral, Heun, Lms, Sampler, Setting};
use elucidate_schedules::{KarrasSteps, LossWeight, NoiseInput, Preconditioning, TrainingNoise};
use serde::{Deserialize, Serialize};

/// Train the UNet on Fashion-MNIST with Karras preconditioning, sample with every sampler, score with FID and KID.
///
/// Everything lands in the run's folder: run.json, train.csv, samples.csv, charts and pictures (*.png), model/,
/// checkpoint/ and log.txt. With --sampler or --setting only these are sampled, instead of the notebook's list.
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-23-karras", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,

    #[command(flatten)]
    pub edm: EdmOptions,

    #[command(flatten)]
    pub own: OneSetting,
}

impl CommandLine for Options {
    const EXPERIMENT: &'static str = "23_karras";

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

/// Options of the preconditioning, which training and sampling must agree on.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "The model")]
pub struct EdmOptions {
    /// The data's standard deviation that the preconditioning assumes, in pixels of [-1,1]
    #[arg(long, default_value_t = 0.66, value_name = "SIGMA", allow_negative_numbers = true)]
    pub sigma_data: f64,

    /// What the network is told of the noise level: sigma itself, as the notebook has it, or EDM's ln(sigma)/4
    #[arg(long, default_value = "sigma", value_parser = by_name::<NoiseInput>(NoiseInput::NAMES))]
    pub noise_input: NoiseInput,

    /// Draw a batch's sigmas from as many equal parts of their distribution as it has images, one each
    #[arg(long)]
    #[serde(default)]
    pub stratified: bool,

    /// How errors at each sigma count in training; unit is the notebook's
    #[arg(long, default_value = "unit", value_parser = by_name::<LossWeight>(LossWeight::NAMES))]
    #[serde(default)]
    pub loss_weight: LossWeight,
}

impl EdmOptions {
    /// The notebook's choices, but for these options.
    pub fn choices(&self) -> Choices {
        Choices {
            preconditioning: Preconditioning::edm(self.sigma_data, self.noise_input),
            training_noise: TrainingNoise::default(),
            stratified: self.stratified,
            loss_weight: self.loss_weight,
        }
    }

    /// # Errors
    /// When a value is impossible.
    pub fn check(&self) -> Result<()> {
        self.choices().preconditioning.check().with_context(|| format!("--sigma-data {}", self.sigma_data))
    }
}

/// The notebook's list: Euler 100, ancestral 100, Heun 50 and 20, Heun 20 with churn, LMS 20. The smoke preset takes a
/// tenth of the steps.
pub fn notebook_settings(preset: Preset) -> Vec<Setting> {
    let all: [(Sampler, usize); 6] = [
        (Euler::default().into(), 100),
        (EulerAncestral { eta: 0.5, ..EulerAncestral::default() }.into(), 100),
        (Heun::default().into(), 50),
        (Heun::default().into(), 20),
        (Heun { s_churn: 0.5, ..Heun::default() }.into(), 20),
        (Lms::default().into(), 20),
    ];
    all.map(|(sampler, steps)| Setting::notebook(sampler, preset.steps(steps))).into()
}

/// Heun with 18 steps, and with half and about a quarter of its evaluations, at each ρ.
pub fn rho_settings(preset: Preset) -> Vec<Setting> {
    let (budgets, rhos): (&[usize], &[f64]) = match preset {
        Preset::Smoke => (&[2, 3], &[1.0, 7.0]),
        _ => (&[5, 9, 18], &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0]),
    };
    let at = |steps: usize, rho: f64| Setting {
        sampler: Heun::default().into(),
        sigma_steps: KarrasSteps { rho, steps, ..KarrasSteps::default() }.into(),
    };
    budgets.iter().flat_map(|&steps| rhos.iter().map(move |&rho| at(steps, rho))).collect()
}
