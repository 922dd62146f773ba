//! The 22_noise_pred notebook: can the noise level be read off the image?

mod data;
mod figures;
mod options;

use anyhow::{Context, Result};
use candle_core::Device;
use data::{NoisedData, Target};
use elucidate_core::params::{Params, Tensors, frozen};
use elucidate_lab::evaluate::model_card::noise_level_card;
use elucidate_lab::run::Run;
use elucidate_lab::run::options::NoOwnOptions;
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::noise_level::NoiseLevelModel;
use elucidate_lab::train::recipe::{Recipe, train};
use elucidate_report::write_csv;
use figures::{Errors, Predictions};
use options::{Options, channels, preset};
use std::path::Path;
use std::process::ExitCode;
use tracing::info;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    elucidate_lab::run::program::main(elucidate_lab::git_revision!(), run)
}

fn run(options: &Options) -> Result<()> {
    options.check()?;
    let checkpoint = options.run.checkpoint.as_deref();
    let named = |dir: &Path| format!("--checkpoint {}", dir.display());
    if let Some(dir) = checkpoint {
        NoiseLevelModel::load(dir, &Device::Cpu).with_context(|| named(dir))?;
    }
    let (mut run, own) = Run::begin(&options.run, Options::EXPERIMENT, NoOwnOptions {}, preset)?;
    let given = checkpoint.map(|dir| NoiseLevelModel::given(&mut run, dir, &own).with_context(|| named(dir)));
    let given = given.transpose()?;
    let data = NoisedData::new(&run);

    // What constants would do: 0, the best one, and 0.5, the notebook's.
    run.phase("baselines", |run| {
        let logits = data.logits(run.settings.scoring.test_images);
        let batch = &logits[..run.settings.training.batch_size.min(logits.len())];
        for constant in [0.0, 0.5] {
            for (over, logits) in [("the test set", logits.as_slice()), ("one batch", batch)] {
                let errors = logits.iter().map(|logit| (logit - constant).powi(2));
                let mse = errors.sum::<f64>() / logits.len() as f64;
                run.figure(&format!("MSE of the constant {constant} over {over}"), mse);
            }
        }
        Ok(())
    })?;

    // The model on logit ᾱ: trained here, or made before.
    let made = match given {
        Some(model) => Some(model),
        None => NoiseLevelModel::saved(&mut run)?,
    };
    let logit_model = match made {
        Some(model) => model,
        None => {
            let weights = run.phase("training", |run| trained(run, &data, Target::Logit, recipe("")))?;
            let channels = channels(&run.settings)?;
            NoiseLevelModel::save(&mut run, channels, &weights, &own)?
        }
    };
    let mut predictions = vec![];
    run.phase("errors", |run| {
        let first = Predictions::of(&data, &logit_model, Target::Logit)?;
        noise_level_card(run, &first.mse_logit(), first.rmse_alpha_bar())?;
        figures::titled(run, &data, &logit_model)?;
        predictions.push(first);
        measured(run, &predictions)
    })?;

    // The ablation: the same network, as long, on ᾱ itself.
    if checkpoint.is_none() {
        let weights = run.phase("training without the logit", |run| {
            trained(run, &data, Target::AlphaBar, recipe("_alpha_bar"))
        })?;
        let model = NoiseLevelModel::new(channels(&run.settings)?, frozen(&weights, &run.device))?;
        predictions.push(Predictions::of(&data, &model, Target::AlphaBar)?);
        measured(&mut run, &predictions)?;
    }
    run.finish()
}

/// Writes down what the networks so far say of the test images, the last of them in run.json.
fn measured(run: &mut Run, predictions: &[Predictions]) -> Result<()> {
    let errors: Vec<Errors> = predictions.iter().map(|p| p.errors(run)).collect();
    if let Some(row) = errors.last() {
        run.figure(&format!("MSE on logit ᾱ, trained on {}", row.trained_on), row.mse_logit);
        run.figure(&format!("its standard error, trained on {}", row.trained_on), row.mse_logit_std_err);
        run.figure(&format!("RMSE on ᾱ, trained on {}", row.trained_on), row.rmse_alpha_bar);
    }
    write_csv(&run.folder.path("errors.csv"), &errors)?;
    figures::predicted_by_true(run, predictions)?;
    figures::error_by_logit(run, predictions)
}

/// Batch norm looks across the whole batch.
fn recipe(suffix: &'static str) -> Recipe {
    Recipe { suffix, whole_batches: true }
}

/// Trains the network on a target and returns its last weights.
fn trained(run: &mut Run, data: &NoisedData, target: Target, recipe: Recipe) -> Result<Tensors> {
    let channels = channels(&run.settings)?;
    let (model, params) = Params::init(&run.streams, &run.device, |vb| NoiseLevelModel::new(channels, vb))?;
    run.record.parameters = params.count();
    info!("{} parameters, trained on {}", params.count(), target.name());
    let device = run.device.clone();
    train(
        run,
        &params,
        recipe,
        |shard| data.training_loss(&model, shard, target),
        |weights| data.test_loss(&NoiseLevelModel::new(channels, frozen(weights, &device))?, target),
        |_, _, _| Ok(()),
    )
}
