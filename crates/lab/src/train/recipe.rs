//! Training a model of a run: progress, train.csv, the loss chart, checkpoints.

use crate::run::Run;
use crate::run::interrupt;
use crate::run::progress::bar;
use anyhow::Result;
use candle_core::{Device, Tensor};
use elucidate_core::history::{EpochRecord, TrainOptions};
use elucidate_core::params::{Params, Tensors};
use elucidate_core::train::{Checkpoints, Event, Shard, StepRecord, Trainer};
use elucidate_report::{EventFile, TrainRow, save_training};
use indicatif::ProgressBar;
use rayon::prelude::*;
use tracing::info;

/// Images that one core takes through the network together, forward and back: two blocks of feature maps, or one where the
/// batch would not keep two cores busy.
pub fn shard_on_cpu(batch_size: usize) -> usize {
    if batch_size < 64 { 16 } else { 32 }
}

/// Images that are evaluated together: whole blocks of sixteen.
const EVALUATED: usize = 64;

/// What a training has beside the run's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recipe {
    /// Stands behind the names of its files where a run trains more than one model, as `_alpha_bar` in train_alpha_bar.csv.
    pub suffix: &'static str,
    /// Whether a batch is one shard, as batch norm needs it.
    pub whole_batches: bool,
}

/// Trains `params` by the run's settings, from the run's last checkpoint where it has one, and returns the average of the
/// weights. `loss` is a shard's mean loss; `test_loss` what train.csv shows of the average; `after_epoch` is given each epoch's average
/// and the event file.
///
/// # Errors
/// When the loss is not finite, a file cannot be written or gone on from, or the run was asked to stop.
pub fn train(
    run: &Run,
    params: &Params,
    recipe: Recipe,
    loss: impl Fn(&Shard) -> candle_core::Result<Tensor> + Sync,
    test_loss: impl FnMut(&Tensors) -> candle_core::Result<f64>,
    after_epoch: impl FnMut(&EpochRecord, &Tensors, &mut EventFile) -> Result<()>,
) -> Result<Tensors> {
    let settings = &run.settings;
    let whole_batches = recipe.whole_batches || !run.device.is_cpu();
    let options = TrainOptions {
        epochs: settings.training.epochs,
        batch_size: settings.training.batch_size,
        shard_size: if whole_batches {
            settings.training.batch_size
        } else {
            shard_on_cpu(settings.training.batch_size)
        },
        max_lr: settings.training.lr,
        adam_eps: 1e-5,
        ema_decay: settings.training.ema_decay,
    };
    let suffix = recipe.suffix;
    let steps = options.epochs * options.steps_per_epoch(settings.training.train_images);
    let path = run.folder.path(format!("checkpoint/last{suffix}.safetensors"));
    let checkpoints = Some(Checkpoints { path, every: run.checkpoint_every });
    let trainer = Trainer::new(params, options, &run.streams, settings.training.train_images, checkpoints)?;
    let mut trainer = trainer.resume(&run.device)?;
    let events = run.folder.path(format!("tensorboard/training{suffix}"));
    let mut logger = Logger {
        run,
        suffix,
        progress: bar("training", steps as u64),
        events: EventFile::begin(&events, trainer.steps())?,
        every: steps.div_ceil(MOST_POINTS),
        after_epoch,
    };
    if trainer.steps() > 0 {
        info!("going on after step {} of {steps}", trainer.steps());
        // It may have been killed between the checkpoint and what is logged of the epoch.
        logger.epoch(trainer.history(), trainer.steps(), trainer.average())?;
    }
    let weights = trainer.run(loss, test_loss, |event| {
        match event {
            Event::Step(step) => logger.step(&step)?,
            Event::Epoch { history, average } => {
                if let Some(last) = history.last() {
                    info!(
                        "epoch {}: training loss {:.4}, test loss {:.4}, {:.0} images/s",
                        last.epoch, last.train_loss, last.test_loss, last.images_per_second
                    );
                    logger.epoch(history, last.step, average)?;
                }
            }
        }
        Ok(interrupt::check()?)
    })?;
    logger.progress.finish_and_clear();
    Ok(weights)
}

/// Points of a curve that TensorBoard shows at most: of more it draws lots.
const MOST_POINTS: usize = 1000;

/// Logs a training's progress: on the terminal, in train.csv, in the event file.
struct Logger<'a, F> {
    run: &'a Run,
    suffix: &'static str,
    progress: ProgressBar,
    events: EventFile,
    /// Steps between the points of curves.
    every: usize,
    after_epoch: F,
}

impl<F: FnMut(&EpochRecord, &Tensors, &mut EventFile) -> Result<()>> Logger<'_, F> {
    fn step(&mut self, step: &StepRecord) -> Result<()> {
        self.progress.set_position(step.step as u64);
        self.progress.set_message(format!("loss {:.4}, {:.0} images/s,", step.loss, step.images_per_second));
        if step.step.is_multiple_of(self.every) {
            // The loss is that of the weights before the step.
            let before = step.step - 1;
            let rate = step.images_per_second;
            self.events.scalars(
                before,
                &[("loss/batch", step.loss), ("lr", step.lr), ("images_per_second", rate)],
            )?;
        }
        // A line now and then for those who have no terminal.
        if step.step.is_multiple_of(250) {
            let left = (step.total_steps - step.step) * self.run.settings.training.batch_size;
            info!(
                "epoch {} step {}/{}: loss {:.4}, {:.0} images/s, {:.0} s left",
                step.epoch,
                step.step,
                step.total_steps,
                step.loss,
                step.images_per_second,
                left as f64 / step.images_per_second
            );
        }
        Ok(())
    }

    /// Writes the epochs down, and what belongs to the last where it ends at `steps`.
    fn epoch(&mut self, history: &[EpochRecord], steps: usize, average: &Tensors) -> Result<()> {
        write_history(self.run, self.suffix, history)?;
        let Some(last) = history.last().filter(|last| last.step == steps) else { return Ok(()) };
        self.events.scalars(steps, &[("loss/train", last.train_loss), ("loss/test", last.test_loss)])?;
        (self.after_epoch)(last, average, &mut self.events)?;
        self.events.sync()
    }
}

fn write_history(run: &Run, suffix: &str, history: &[EpochRecord]) -> Result<()> {
    if history.is_empty() {
        return Ok(());
    }
    let rows: Vec<TrainRow> = history
        .iter()
        .map(|e| TrainRow {
            epoch: e.epoch,
            step: e.step,
            images: e.images,
            lr: e.lr,
            train_loss: e.train_loss,
            test_loss: e.test_loss,
            images_per_second: e.images_per_second,
            seconds: e.seconds,
        })
        .collect();
    save_training(run.folder.root(), suffix, &rows)
}

/// `figure` of images 0 to `n` − 1, which it is given in groups of their indices, in order.
///
/// # Errors
/// Those of `figure`, and when the run was asked to stop.
pub fn map_images<T: Send>(
    n: usize,
    device: &Device,
    figure: impl Fn(&[usize]) -> candle_core::Result<T> + Sync,
) -> candle_core::Result<Vec<T>> {
    let indices: Vec<usize> = (0..n).collect();
    let figure = |indices: &[usize]| {
        interrupt::check().map_err(candle_core::Error::wrap)?;
        figure(indices)
    };
    match device.is_cpu() {
        true => indices.par_chunks(EVALUATED).map(figure).collect(),
        false => indices.chunks(1000).map(figure).collect(),
    }
}

/// The mean of `figure`, itself a mean over the images that it is given, over images 0 to `n` − 1.
///
/// # Errors
/// Those of `figure`.
pub fn mean_over_images(
    n: usize,
    device: &Device,
    figure: impl Fn(&[usize]) -> candle_core::Result<Tensor> + Sync,
) -> candle_core::Result<f64> {
    let sum = |indices: &[usize]| -> candle_core::Result<f64> {
        Ok(f64::from(figure(indices)?.to_scalar::<f32>()?) * indices.len() as f64)
    };
    Ok(map_images(n, device, sum)?.iter().sum::<f64>() / n as f64)
}
