//! Adam with an average of the weights, and the one-cycle schedule of its rates.

use crate::params::{Params, Tensors};
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor, Var, bail};
use rayon::prelude::*;
use std::cell::RefCell;
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

    /// What it remembers. Its tensors change in place with the next step.
    pub fn state(&self) -> &AdamState {
        &self.state
    }

    /// Goes on from a copy of what another remembered, for the same parameters.
    ///
    /// # Errors
    /// Those of the device.
    pub fn restore(&mut self, state: &AdamState) -> Result<()> {
        let copy = |tensors: &Tensors| -> Result<Tensors> {
            tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.copy()?))).collect()
        };
        let AdamState { m, v, ema, step } = state;
        self.state = AdamState { m: copy(m)?, v: copy(v)?, ema: copy(ema)?, step: *step };
        Ok(())
    }

    /// One step along `grads`, by parameter name. A parameter without a gradient (a batch norm's statistics) stays as
    /// it is; the average follows it all the same.
    ///
    /// On the CPU this is one pass over each parameter; elsewhere, and where candle's ops are forced, it is candle's
    /// ops. Both do the same sums in the same order.
    ///
    /// # Errors
    /// When a gradient's shape differs from its parameter's.
    pub fn step(&mut self, grads: &BTreeMap<String, Tensor>, lr: f64, beta1: f64) -> Result<()> {
        for (name, grad) in grads {
            if let Some(var) = self.params.vars().get(name)
                && var.shape() != grad.shape()
            {
                bail!("parameter {name} has shape {:?}, its gradient {:?}", var.dims(), grad.dims());
            }
        }
        self.state.step += 1;
        let t = self.state.step as i32;
        let update = Update {
            beta1,
            rate: lr / (1.0 - beta1.powi(t)),
            correct2: (1.0 - BETA2.powi(t)).sqrt(),
            eps: self.eps,
            decay: self.ema_decay.min((1.0 + f64::from(t)) / (10.0 + f64::from(t))),
        };
        let vars = self.params.vars();
        let ours = |var: &Var| var.device().is_cpu() && var.dtype() == DType::F32;
        if vars.values().all(ours) && !elucidate_kernels::candle_ops_forced() {
            let state = &self.state;
            vars.par_iter().try_for_each(|(name, var)| update.in_one_pass(state, name, var, grads.get(name)))
        } else {
            let state = &mut self.state;
            vars.iter().try_for_each(|(name, var)| update.by_candle(state, name, var, grads.get(name)))
        }
    }
}

/// A step's numbers, the same for every parameter.
struct Update {
    beta1: f64,
    /// Learning rate over 1 − β₁ᵗ.
    rate: f64,
    /// √(1 − β₂ᵗ).
    correct2: f64,
    eps: f64,
    decay: f64,
}

impl Update {
    fn by_candle(&self, state: &mut AdamState, name: &str, var: &Var, grad: Option<&Tensor>) -> Result<()> {
        let AdamState { m, v, ema, .. } = state;
        if let Some(grad) = grad {
            let new_m = ((&m[name] * self.beta1)? + (grad * (1.0 - self.beta1))?)?;
            let new_v = ((&v[name] * BETA2)? + (grad.sqr()? * (1.0 - BETA2))?)?;
            let denominator = ((new_v.sqrt()? / self.correct2)? + self.eps)?;
            var.set(&(var.as_detached_tensor() - (new_m.div(&denominator)? * self.rate)?)?)?;
            m.insert(name.to_string(), new_m);
            v.insert(name.to_string(), new_v);
        }
        let average = ((&ema[name] * self.decay)? + (var.as_detached_tensor() * (1.0 - self.decay))?)?;
        ema.insert(name.to_string(), average);
        Ok(())
    }

    fn in_one_pass(&self, state: &AdamState, name: &str, var: &Var, grad: Option<&Tensor>) -> Result<()> {
        let AdamState { m, v, ema, .. } = state;
        let Some(grad) = grad else {
            return edit(var, |w| edit(&ema[name], |ema| self.follow(w, ema)));
        };
        let grad = grad.contiguous()?;
        let (storage, layout) = grad.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(grad)), Some((from, to))) =
            (&*storage, layout.contiguous_offsets())
        else {
            bail!("the gradient of {name} is not f32 on the CPU");
        };
        let grad = &grad[from..to];
        edit(var, |w| {
            edit(&m[name], |m| edit(&v[name], |v| edit(&ema[name], |ema| self.descend(grad, w, m, v, ema))))
        })
    }

    fn descend(
        &self,
        grad: &[f32],
        w: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        ema: &mut [f32],
    ) -> Result<()> {
        let (beta1, rest1) = (self.beta1 as f32, (1.0 - self.beta1) as f32);
        let (beta2, rest2) = (BETA2 as f32, (1.0 - BETA2) as f32);
        let (correct2, eps, rate) = ((1.0 / self.correct2) as f32, self.eps as f32, self.rate as f32);
        let average = self.average();
        for ((((g, w), m), v), ema) in grad.iter().zip(w).zip(m).zip(v).zip(ema) {
            *m = *m * beta1 + g * rest1;
            *v = *v * beta2 + g * g * rest2;
            *w -= *m / (v.sqrt() * correct2 + eps) * rate;
            *ema = average(*ema, *w);
        }
        Ok(())
    }

    fn follow(&self, w: &[f32], ema: &mut [f32]) -> Result<()> {
        let average = self.average();
        ema.iter_mut().zip(w).for_each(|(ema, &w)| *ema = average(*ema, w));
        Ok(())
    }

    /// The next average from the last one and a weight.
    fn average(&self) -> impl Fn(f32, f32) -> f32 {
        let (decay, rest) = (self.decay as f32, (1.0 - self.decay) as f32);
        move |ema, w| ema * decay + w * rest
    }
}

/// Hands the numbers of a contiguous f32 tensor on the CPU to `f`, to be changed where they are.
fn edit(tensor: &Tensor, f: impl FnMut(&mut [f32]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Edit(RefCell::new(f)))
}

struct Edit<F>(RefCell<F>);

impl<F: FnMut(&mut [f32]) -> Result<()>> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            bail!("only a contiguous f32 tensor can be changed where it is")
        };
        (self.0.borrow_mut())(&mut values[from..to])
    }
}
