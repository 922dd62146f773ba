//! What only the classifier needs: its activation and batch norm.

use candle_core::{Result, Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::init::{ONE, ZERO};
use elucidate_kernels::{BatchNormed, FeatureMaps, batch_norm, leaky_relu};

/// The activation's slope below zero.
pub(super) const LEAK: f64 = 0.1;

/// What the activation subtracts, so that its outputs are near zero on average.
const SHIFT: f64 = 0.4;

/// Leaky ReLU, shifted down: x's shape.
pub(super) fn activate(x: &FeatureMaps) -> Result<FeatureMaps> {
    leaky_relu(x, LEAK, SHIFT)
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

    /// (n, c, h, w) to the same shape. `train` normalises by the batch's statistics and moves the running ones.
    pub(super) fn forward(&self, x: &FeatureMaps, train: bool) -> Result<FeatureMaps> {
        if train {
            let BatchNormed { y, mean, var } = batch_norm(x, &self.weight, &self.bias, Self::EPS)?;
            let (n, _, height, width) = x.dims();
            self.track(&mean, &var, n * height * width)?;
            return Ok(y);
        }
        let scale = self.weight.div(&(self.running_var.as_detached_tensor() + Self::EPS)?.sqrt()?)?;
        let shift = (&self.bias - (self.running_mean.as_detached_tensor() * &scale)?)?;
        x.affine(&scale, &shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Params, frozen};
    use crate::rng::Streams;
    use candle_core::Device;

    #[test]
    fn running_statistics_are_parameters_and_serve_in_evaluation() -> Result<()> {
        let (norm, params) = Params::init(&Streams::new(0), &Device::Cpu, |vb| BatchNorm::new(2, vb))?;
        let x = Tensor::new(&[[1f32, 10.0], [3.0, 10.0], [5.0, 16.0]], &Device::Cpu)?;
        let x = FeatureMaps::new(&x.reshape((3, 2, 1, 1))?)?;
        norm.forward(&x, true)?;
        let stats = params.snapshot()?;
        // Means 3 and 12, unbiased variances 4 and 12; a tenth of each joins nine tenths of 0 and 1.
        for (name, expected) in [("running_mean", [0.3, 1.2]), ("running_var", [1.3, 2.1])] {
            for (value, expected) in stats[name].to_vec1::<f32>()?.into_iter().zip(expected) {
                assert!((value - expected).abs() < 1e-6, "{name}: {value} is not {expected}");
            }
        }
        let y = norm.forward(&x, false)?.to_tensor()?.flatten_all()?.to_vec1::<f32>()?;
        assert!((y[0] - (1.0 - 0.3) / (1.3f32 + 1e-5).sqrt()).abs() < 1e-6, "{y:?}");
        let copy = BatchNorm::new(2, frozen(&stats, &Device::Cpu))?;
        assert_eq!(copy.forward(&x, false)?.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, y);
        Ok(())
    }
}
