//! What a training was asked to do and has done so far: what a checkpoint carries beside the weights.

use serde::{Deserialize, Serialize};

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    /// Passes over the examples, at least 1.
    pub epochs: usize,
    /// Examples in a step, at least 1; an epoch's last step may have fewer.
    pub batch_size: usize,
    /// Examples in a shard: a batch is cut into shards, each with its own graph on its own core, and their gradients
    /// are summed in order. It fixes the order of sums, so results do not depend on the number of threads.
    pub shard_size: usize,
    /// Peak of the one-cycle learning rate.
    pub max_lr: f64,
    /// Adam's ε.
    pub adam_eps: f64,
    /// Decay of the weights' average, in [0, 1); at 0 the average is the last weights.
    pub ema_decay: f64,
}

impl TrainOptions {
    /// Steps in an epoch over `examples` examples; the last one may be smaller.
    pub fn steps_per_epoch(&self, examples: usize) -> usize {
        examples.div_ceil(self.batch_size)
    }
}

/// A row of the training's history: one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epochs done, from 1.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Examples seen.
    pub images: u64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean training loss over the epoch.
    pub train_loss: f64,
    /// What `evaluate` found with the average of the weights.
    pub test_loss: f64,
    /// Examples a second while training, evaluation left out.
    pub images_per_second: f64,
    /// Seconds of training since the run began, evaluation included; pauses between a stop and its resumption left out.
    pub seconds: f64,
}

/// What is known of an epoch before its end.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct EpochSoFar {
    /// Sum of the examples' losses.
    pub loss_sum: f64,
    /// Seconds of training.
    pub seconds: f64,
}
