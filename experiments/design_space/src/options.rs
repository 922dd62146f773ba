//! The command line of exp-design-space.

use anyhow::{Context, Result};
use clap::{Args, Parser};
use elucidate_lab::evaluate::one_setting::OneSetting;
use elucidate_lab::run::options::{RunOptions, by_name};
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::objective::Choices;
use elucidate_samplers::parse_choice;
use elucidate_schedules::{LossWeight, NoiseSchedule, Preconditioning, Prediction, TrainingNoise};

/// Train the UNet on Fashion-MNIST with any prediction along any noise schedule at any scale of the data, sample with any
/// sampler, score with FID and KID.
///
/// Everything lands in the run's folder: run.json, train.csv, samples.csv, charts and pictures (*.png), model/,
/// checkpoint/ and log.txt. Without --sampler or --setting, Heun with 20 steps.
#[derive(Debug, Clone, Parser)]
#[command(name = "exp-design-space", version)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,

    #[command(flatten)]
    pub design: DesignOptions,

    #[command(flatten)]
    pub own: OneSetting,
}

impl CommandLine for Options {
    const EXPERIMENT: &'static str = "design_space";

    fn run_options(&mut self) -> &mut RunOptions {
        &mut self.run
    }
}

/// The choices, which training and sampling must agree on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The model")]
pub struct DesignOptions {
    /// What the network predicts: edm, ve, eps, v, x0 or flow; edm with its options, as in "edm sigma_data=0.5 mean=-0.4"
    #[arg(long, default_value = "eps", value_name = "TEXT")]
    pub prediction: String,

    /// The noise schedule: cosine, sigmoid, linear_alpha_bar, linear_beta, vp, ve, edm or rectified_flow, with its
    /// options, as in "sigmoid start=-3 end=3 tau=0.9"
    #[arg(long, default_value = "cosine", value_name = "TEXT")]
    pub schedule: String,

    /// b: the network sees pixels of [-b,b]
    #[arg(long, default_value_t = 1.0, value_name = "B", allow_negative_numbers = true)]
    pub data_scale: f64,

    /// The distribution of noise in training: uniform_time, log_normal or log_uniform, with its options, as in "log_normal
    /// p_mean=-1.2 p_std=1.2" [default: log_normal with edm, log_uniform with ve, else uniform_time]
    #[arg(long, value_name = "TEXT")]
    pub training_noise: Option<String>,

    /// Draw a batch's noise levels from as many equal parts of their distribution as it has images, one each
    #[arg(long)]
    pub stratified: bool,

    /// How errors at each noise level count
    #[arg(long, default_value = "unit", value_parser = by_name::<LossWeight>(LossWeight::NAMES))]
    pub loss_weight: LossWeight,

    /// Do not tell the network the time
    #[arg(long)]
    pub no_time: bool,

    /// Scale the network's input to variance one, as edm does anyway, for data of this standard deviation in pixels of [-1,1] (Chen 2023)
    #[arg(long, value_name = "SIGMA", num_args = 0..=1, default_missing_value = "0.66", allow_negative_numbers = true)]
    pub normalise_input: Option<f64>,
}

impl DesignOptions {
    /// What they say.
    ///
    /// # Errors
    /// One line that names the option whose value is impossible.
    pub fn choices(&self) -> Result<Choices> {
        let given = |option: &str, text: &str| format!("--{option} {text:?}");
        let schedule: NoiseSchedule =
            parse_choice("schedule", &self.schedule).with_context(|| given("schedule", &self.schedule))?;
        let prediction: Prediction = parse_choice("prediction", &self.prediction)
            .with_context(|| given("prediction", &self.prediction))?;
        let training_noise: TrainingNoise = match (&self.training_noise, prediction) {
            (Some(text), _) => {
                parse_choice("training_noise", text).with_context(|| given("training-noise", text))?
            }
            (None, Prediction::Edm { .. }) => TrainingNoise::default(),
            (None, Prediction::Ve {}) => parse_choice("training_noise", "log_uniform")?,
            (None, _) => TrainingNoise::UniformTime {},
        };
        training_noise.check().context("--training-noise")?;
        let preconditioning = Preconditioning {
            scale: self.data_scale,
            told_time: !self.no_time,
            input_sigma_data: self.normalise_input,
            ..Preconditioning::along(prediction, schedule)
        };
        schedule.check().with_context(|| given("schedule", &self.schedule))?;
        preconditioning.check().with_context(|| {
            format!("{} with --data-scale {}", given("prediction", &self.prediction), self.data_scale)
        })?;
        let Self { stratified, loss_weight, .. } = *self;
        Ok(Choices { preconditioning, training_noise, stratified, loss_weight })
    }
}
