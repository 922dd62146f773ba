//! What only the classifier needs: batch norm and its pooling.

use super::ops::{Normalised, normalise};
use candle_core::{Result, Tensor, Var};
use candle_nn::init::{ONE, ZERO};
use candle_nn::{ModuleT, VarBuilder};

/// Average pooling by 2 of (n, c, h, w), rounding up: at an odd edge the average is over the pixels that exist.
pub(super) fn halve(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let (bottom, right) = (height % 2, width % 2);
    if (bottom, right) == (0, 0) {
        return x.avg_pool2d(2);
    }
    let pool = |x: &Tensor| x.pad_with_zeros(2, 0, bottom)?.pad_with_zeros(3, 0, right)?.avg_pool2d(2);
    pool(x)?.broadcast_div(&pool(&x.narrow(0, 0, 1)?.narrow(1, 0, 1)?.ones_like()?)?)
}

/// Batch normalisation (Ioffe & Szegedy 2015) with PyTorch's defaults. The running statistics are parameters like
/// others, so that checkpoints carry them; no gradient reaches them.
#[derive(Debug, Clone)]
pub(super) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
}

impl BatchNorm {
    const EPS: f64 = 1e-5;
    /// The new batch's share in the running statistics.
    const MOMENTUM: f64 = 0.1;

    /// Over `channels`; weight one and bias zero, running mean zero and variance one at first.
    pub(super) fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", ONE)?,
            bias: vb.get_with_hints(channels, "bias", ZERO)?,
            // A variable stays the very same, so the builder's set sees the statistics move.
            running_mean: Var::from_tensor(&vb.get_with_hints(channels, "running_mean", ZERO)?)?,
            running_var: Var::from_tensor(&vb.get_with_hints(channels, "running_var", ONE)?)?,
        })
    }

    /// Moves the running statistics to those of a batch with `count` numbers a channel; as in PyTorch, the running
    /// variance is the unbiased one.
    fn track(&self, mean: &Tensor, var: &Tensor, count: usize) -> Result<()> {
        let unbiased = (var * (count as f64 / (count as f64 - 1.0)))?;
        for (running, batch) in [(&self.running_mean, mean), (&self.running_var, &unbiased)] {
            let kept = (running.as_detached_tensor() * (1.0 - Self::MOMENTUM))?;
            running.set(&(kept + (batch * Self::MOMENTUM)?)?)?;
        }
        Ok(())
    }
}

impl ModuleT for BatchNorm {
    /// (n, c, …) to the same shape.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let flat = x.reshape((x.dim(0)?, x.dim(1)?, ()))?;
        let y = if train {
            let Normalised { y, mean, var } = normalise(&flat, &self.weight, &self.bias, Self::EPS)?;
            self.track(&mean, &var, x.elem_count() / x.dim(1)?)?;
            y
        } else {
            let scale = self.weight.div(&(self.running_var.as_detached_tensor() + Self::EPS)?.sqrt()?)?;
            let shift = (&self.bias - (self.running_mean.as_detached_tensor() * &scale)?)?;
            let per_channel = |t: Tensor| t.reshape((1, (), 1));
            flat.broadcast_mul(&per_channel(scale)?)?.broadcast_add(&per_channel(shift)?)?
        };
        y.reshape(x.shape())
    }
}
