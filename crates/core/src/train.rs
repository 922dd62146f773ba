//! The trainer: it knows nothing of diffusion, prints nothing, and goes on from a checkpoint bit for bit.

use crate::checkpoint::{Checkpoint, CheckpointError, previous};
use crate::history::{EpochRecord, EpochSoFar, TrainOptions};
use crate::optim::{Adam, OneCycle};
use crate::params::{Params, Tensors};
use crate::rng::Streams;
use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where a training's checkpoint is kept, and how often it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// The file; the checkpoint before it is kept beside it.
    pub path: PathBuf,
    /// Time after which a step writes one, besides each epoch's end and a stop.
    pub every: Duration,
}

/// A part of a batch.
#[derive(Debug, Clone)]
pub struct Shard<'a> {
    /// Which examples.
    pub indices: &'a [usize],
    /// Their places in the run, epoch · examples + place in the epoch: the numbers of their noise streams.
    pub positions: Range<u64>,
    /// The places of the whole batch.
    pub batch: Range<u64>,
}

/// A step's progress.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub total_steps: usize,
    /// The epoch under way, from 1.
    pub epoch: usize,
    /// The batch's mean loss.
    pub loss: f64,
    /// The step's learning rate.
    pub lr: f64,
    /// Examples a second in this epoch so far.
    pub images_per_second: f64,
}

/// What the trainer tells of.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step(StepRecord),
    /// An epoch is done, and its checkpoint written.
    Epoch {
        /// The epochs so far.
        history: &'a [EpochRecord],
        /// The average of the weights.
        average: &'a Tensors,
    },
}

/// Why a training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss or a weight is not a number any more.
    #[error(
        "{what} at step {step} of epoch {epoch} (learning rate {lr:.2e}): try a smaller --lr; {last_good}"
    )]
    NotFinite {
        /// What is not finite.
        what: String,
        /// Steps done.
        step: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// The learning rate.
        lr: f64,
        /// Where the last good checkpoint is, or that there is none.
        last_good: String,
    },
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The callback stopped it; the checkpoint has been written.
    #[error("the training was stopped after step {step}")]
    Stopped {
        /// Steps done.
        step: usize,
        /// What the callback says.
        source: anyhow::Error,
    },
}

/// A training under way.
#[derive(Debug)]
pub struct Trainer {
    params: Params,
    options: TrainOptions,
    streams: Streams,
    examples: usize,
    adam: Adam,
    history: Vec<EpochRecord>,
    so_far: EpochSoFar,
    checkpoints: Option<Checkpoints>,
    /// When the last checkpoint was written, or the training began.
    checkpointed: Instant,
}

impl Trainer {
    /// A new training of `params` on `examples` examples, at least 1.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(
        params: &Params,
        options: TrainOptions,
        streams: &Streams,
        examples: usize,
        checkpoints: Option<Checkpoints>,
    ) -> Result<Self, TrainError> {
        let adam = Adam::new(params, options.adam_eps, options.ema_decay)?;
        Ok(Self {
            params: params.clone(),
            options,
            streams: *streams,
            examples,
            adam,
            history: vec![],
            so_far: EpochSoFar::default(),
            checkpoints,
            checkpointed: Instant::now(),
        })
    }

    /// Goes on from the newest checkpoint that is whole, which must be of the same options, seed, examples and parameters;
    /// from the beginning where there is none yet.
    ///
    /// # Errors
    /// When all are damaged, or the newest is of another training or a newer version: one line that says what differs.
    pub fn resume(mut self, device: &Device) -> Result<Self, TrainError> {
        let Some(Checkpoints { path, .. }) = &self.checkpoints else { return Ok(self) };
        if let Some((state, path)) = Checkpoint::read_newest(path, device)? {
            state.check(&self.options, &self.streams, self.examples, &self.params, &path)?;
            self.params.assign(&state.weights)?;
            self.adam.restore(&state.adam)?;
            (self.history, self.so_far) = (state.history, state.so_far);
        }
        Ok(self)
    }

    /// The epochs that it has done so far.
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }

    /// The steps that it has done so far.
    pub fn steps(&self) -> usize {
        self.adam.state().step
    }

    /// The average of the weights so far.
    pub fn average(&self) -> &Tensors {
        &self.adam.state().ema
    }

    fn steps_per_epoch(&self) -> usize {
        self.options.steps_per_epoch(self.examples)
    }

    /// Trains to the end: `loss` gives a shard's mean loss (a scalar), `evaluate` a figure for the average of the
    /// weights, `on_event` is told of progress and may stop it. Returns the average of the weights.
    ///
    /// # Errors
    /// When the loss is not finite, a checkpoint cannot be written, or a callback fails; a checkpoint is written then.
    pub fn run(
        &mut self,
        loss: impl Fn(&Shard) -> candle_core::Result<Tensor> + Sync,
        mut evaluate: impl FnMut(&Tensors) -> candle_core::Result<f64>,
        mut on_event: impl FnMut(Event) -> anyhow::Result<()>,
    ) -> Result<Tensors, TrainError> {
        let total_steps = self.options.epochs * self.steps_per_epoch();
        let schedule = OneCycle::new(self.options.max_lr, total_steps);
        self.checkpointed = Instant::now();
        for epoch in self.history.len()..self.options.epochs {
            let train_loss = self.train_epoch(epoch, &schedule, &loss, &mut on_event)?;
            let (lr, _) = schedule.at(self.steps() - 1);
            let start = Instant::now();
            let evaluated = evaluate(self.average());
            if evaluated.is_err() {
                self.write_checkpoint(epoch, lr)?;
            }
            let test_loss = evaluated?;
            let EpochSoFar { seconds, .. } = std::mem::take(&mut self.so_far);
            self.check_loss(test_loss, self.steps(), epoch, lr)?;
            let before = self.history.last().map_or(0.0, |e| e.seconds);
            self.history.push(EpochRecord {
                epoch: epoch + 1,
                step: self.steps(),
                images: ((epoch + 1) * self.examples) as u64,
                lr,
                train_loss,
                test_loss,
                images_per_second: self.examples as f64 / seconds,
                seconds: before + seconds + start.elapsed().as_secs_f64(),
            });
            self.write_checkpoint(epoch, lr)?;
            let told = on_event(Event::Epoch { history: &self.history, average: self.average() });
            told.map_err(|source| TrainError::Stopped { step: self.steps(), source })?;
        }
        Ok(self.average().clone())
    }

    /// Trains what is left of an epoch, counted from 0, and returns its mean loss.
    fn train_epoch(
        &mut self,
        epoch: usize,
        schedule: &OneCycle,
        loss: &(impl Fn(&Shard) -> candle_core::Result<Tensor> + Sync),
        on_event: &mut impl FnMut(Event) -> anyhow::Result<()>,
    ) -> Result<f64, TrainError> {
        let (start, before) = (Instant::now(), self.so_far.seconds);
        let done = self.steps() - epoch * self.steps_per_epoch();
        let mut seen = (done * self.options.batch_size).min(self.examples);
        for indices in self.order(epoch).chunks(self.options.batch_size).skip(done) {
            let step = self.steps();
            let (lr, beta1) = schedule.at(step);
            let first = (epoch * self.examples + seen) as u64;
            let (batch_loss, grads) = self.gradients(indices, first, loss)?;
            self.check_loss(batch_loss, step + 1, epoch, lr)?;
            self.adam.step(&grads, lr, beta1)?;
            seen += indices.len();
            self.so_far.loss_sum += batch_loss * indices.len() as f64;
            self.so_far.seconds = before + start.elapsed().as_secs_f64();
            let told = on_event(Event::Step(StepRecord {
                step: step + 1,
                total_steps: self.options.epochs * self.steps_per_epoch(),
                epoch: epoch + 1,
                loss: batch_loss,
                lr,
                images_per_second: seen as f64 / self.so_far.seconds,
            }));
            if told.is_err() || self.checkpoint_is_due() {
                self.write_checkpoint(epoch, lr)?;
            }
            told.map_err(|source| TrainError::Stopped { step: step + 1, source })?;
        }
        Ok(self.so_far.loss_sum / self.examples as f64)
    }

    /// An error where `loss` is not a finite number; `step` counts from 1, `epoch` from 0.
    fn check_loss(&self, loss: f64, step: usize, epoch: usize, lr: f64) -> Result<(), TrainError> {
        match loss.is_finite() {
            true => Ok(()),
            false => Err(self.not_finite(format!("the loss is {loss}"), step, epoch, lr)),
        }
    }

    fn not_finite(&self, what: String, step: usize, epoch: usize, lr: f64) -> TrainError {
        TrainError::NotFinite { what, step, epoch: epoch + 1, lr, last_good: self.last_good() }
    }

    /// The examples of an epoch in the order of stream ("data order", epoch).
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.examples).collect();
        order.shuffle(&mut self.streams.stream("data order", epoch as u64));
        order
    }

    /// A batch's mean loss and its gradients by parameter name.
    fn gradients(
        &self,
        indices: &[usize],
        first: u64,
        loss: &(impl Fn(&Shard) -> candle_core::Result<Tensor> + Sync),
    ) -> candle_core::Result<(f64, BTreeMap<String, Tensor>)> {
        let size = self.options.shard_size.max(1);
        let batch = indices.len();
        let shard = |(i, indices): (usize, &[usize])| {
            let from = first + (i * size) as u64;
            let shard = Shard {
                indices,
                positions: from..from + indices.len() as u64,
                batch: first..first + batch as u64,
            };
            self.shard_gradients(&shard, indices.len() as f64 / batch as f64, loss)
        };
        let cpu = self.params.vars().values().next().is_none_or(|var| var.device().is_cpu());
        let shards: Vec<_> = match cpu {
            true => indices.par_chunks(size).enumerate().map(shard).collect::<candle_core::Result<_>>()?,
            false => indices.chunks(size).enumerate().map(shard).collect::<candle_core::Result<_>>()?,
        };
        let mut sum = 0.0;
        let mut grads: BTreeMap<String, Tensor> = BTreeMap::new();
        for (loss, shard) in shards {
            sum += loss;
            for (name, grad) in shard {
                let sum = match grads.remove(&name) {
                    Some(sum) => (sum + grad)?,
                    None => grad,
                };
                grads.insert(name, sum);
            }
        }
        Ok((sum, grads))
    }

    /// A shard's part of the batch's mean loss, and that part's gradients.
    fn shard_gradients(
        &self,
        shard: &Shard,
        part: f64,
        loss: &(impl Fn(&Shard) -> candle_core::Result<Tensor> + Sync),
    ) -> candle_core::Result<(f64, Vec<(String, Tensor)>)> {
        let loss = (loss(shard)? * part)?;
        let mut grads = loss.backward()?;
        let named = |(name, var): (&String, &candle_core::Var)| Some((name.clone(), grads.remove(var)?));
        let grads = self.params.vars().iter().filter_map(named).collect();
        Ok((f64::from(loss.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?), grads))
    }

    fn checkpoint_is_due(&self) -> bool {
        self.checkpoints.as_ref().is_some_and(|c| self.checkpointed.elapsed() >= c.every)
    }

    /// Writes the state after a step of `epoch`, counted from 0, at rate `lr`. The step may have spoilt the weights without
    /// a loss to show it: they must not become a checkpoint.
    fn write_checkpoint(&mut self, epoch: usize, lr: f64) -> Result<(), TrainError> {
        let Some(Checkpoints { path, .. }) = &self.checkpoints else { return Ok(()) };
        let state = Checkpoint {
            options: self.options.clone(),
            seed: self.streams.seed(),
            examples: self.examples,
            weights: self.params.snapshot()?,
            adam: self.adam.state().clone(),
            history: self.history.clone(),
            so_far: self.so_far,
        };
        state.check_finite().map_err(|e| self.not_finite(e.to_string(), self.steps(), epoch, lr))?;
        state.write(path)?;
        self.checkpointed = Instant::now();
        Ok(())
    }

    fn last_good(&self) -> String {
        let kept = self.checkpoints.iter().flat_map(|c| [c.path.clone(), previous(&c.path)]);
        match kept.into_iter().find(|path| path.exists()) {
            Some(path) => format!("the last good checkpoint is {}", path.display()),
            None => "there is no checkpoint yet".to_string(),
        }
    }
}
