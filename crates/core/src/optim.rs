//! Adam with an average of the weights, and the one-cycle schedule of its rates.

use crate::params::{Params, Tensors};
use candle_core::{Result, Tensor};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// PyTorch's `OneCycleLR` with cosine annealing and cycled β₁ (Smith & Topin 2017): from `max_lr`/25 up to `max_lr`
/// over the first 30 % of the steps, then down to `max_lr`/250,000, while β₁ goes from 0.95 to 0.85 and back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycle {
    max_lr: f64,
    total_steps: usize,
}

impl OneCycle {
    const WARM_UP: f64 = 0.3;
    const START: f64 = 1.0 / 25.0;
    const END: f64 = 1.0 / 250_000.0;
    const BETA1: (f64, f64) = (0.95, 0.85);

    /// A cycle of `total_steps` steps, at least one.
    pub fn new(max_lr: f64, total_steps: usize) -> Self {
        Self { max_lr, total_steps: total_steps.max(1) }
    }

    /// Learning rate and β₁ of step `step`, from 0 to total_steps − 1; beyond, those of the last.
    pub fn at(&self, step: usize) -> (f64, f64) {
        let last = self.total_steps as f64 - 1.0;
        let peak = Self::WARM_UP * self.total_steps as f64 - 1.0;
        let step = (step as f64).min(last);
        let (beta_start, beta_peak) = Self::BETA1;
        let between = |from: f64, to: f64, part: f64| to + (from - to) * (1.0 + (PI * part).cos()) / 2.0;
        if step <= peak {
            let part = step / peak;
            (self.max_lr * between(Self::START, 1.0, part), between(beta_start, beta_peak, part))
        } else {
            let part = ((step - peak) / (last - peak)).min(1.0);
            (self.max_lr * between(1.0, Self::END, part), between(beta_peak, beta_start, part))
        }
    }
}

/// Adam (Kingma & Ba 2014, Algorithm 1, as PyTorch has it) without weight decay, and an exponential moving average of
/// the weights.
#[derive(Debug)]
pub struct Adam {
    params: Params,
    state: AdamState,
    eps: f64,
    ema_decay: f64,
}

/// What Adam and the average remember between steps, by parameter name.
#[derive(Debug, Clone)]
pub struct AdamState {
    /// The gradients' running mean.
    pub m: Tensors,
    /// The squared gradients' running mean.
    pub v: Tensors,
    /// The weights' average.
    pub ema: Tensors,
    /// Steps taken.
    pub step: usize,
}

const BETA2: f64 = 0.999;

impl Adam {
    /// For these parameters. The average's decay at step t is min(`ema_decay`, (1 + t)/(10 + t)), so that a short run's
    /// average does not keep its first weights (TensorFlow's `ExponentialMovingAverage`).
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(params: &Params, eps: f64, ema_decay: f64) -> Result<Self> {
        let zeros = || -> Result<Tensors> {
            params.vars().iter().map(|(name, var)| Ok((name.clone(), var.zeros_like()?))).collect()
        };
        let state = AdamState { m: zeros()?, v: zeros()?, ema: params.snapshot()?, step: 0 };
        Ok(Self { params: params.clone(), state, eps, ema_decay })
    }

    /// What it remembers.
    pub fn state(&self) -> &AdamState {
        &self.state
    }

    /// Goes on from what another remembered, for the same parameters.
    pub fn restore(&mut self, state: AdamState) {
        self.state = state;
    }

    /// One step along `grads`, by parameter name. A parameter without a gradient (a batch norm's statistics) stays as
    /// it is; the average follows it all the same.
    ///
    /// # Errors
    /// When a gradient's shape differs from its parameter's.
    pub fn step(&mut self, grads: &BTreeMap<String, Tensor>, lr: f64, beta1: f64) -> Result<()> {
        let state = &mut self.state;
        state.step += 1;
        let t = state.step as i32;
        let (correct1, correct2) = (1.0 - beta1.powi(t), 1.0 - BETA2.powi(t));
        let decay = self.ema_decay.min((1.0 + t as f64) / (10.0 + t as f64));
        for (name, var) in self.params.vars() {
            if let Some(grad) = grads.get(name) {
                let m = ((&state.m[name] * beta1)? + (grad * (1.0 - beta1))?)?;
                let v = ((&state.v[name] * BETA2)? + (grad.sqr()? * (1.0 - BETA2))?)?;
                let denominator = ((v.sqrt()? / correct2.sqrt())? + self.eps)?;
                var.set(&(var.as_detached_tensor() - (m.div(&denominator)? * (lr / correct1))?)?)?;
                state.m.insert(name.clone(), m);
                state.v.insert(name.clone(), v);
            }
            let ema = ((&state.ema[name] * decay)? + (var.as_detached_tensor() * (1.0 - decay))?)?;
            state.ema.insert(name.clone(), ema);
        }
        Ok(())
    }
}
