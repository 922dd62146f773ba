//! The residual classifier: its features score the samples.

use super::layers::BatchNorm;
use super::{ResidualBlocks, linear_without_bias};
use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, ModuleT, VarBuilder};
use elucidate_kernels::FeatureMaps;

/// Channels of the six blocks, as the lesson has them.
const CHANNELS: [usize; 6] = [16, 32, 64, 128, 256, 512];

/// How many features an image has.
pub const FEATURES: usize = CHANNELS[5];

/// Six residual blocks, then a linear layer without bias and batch norm.
#[derive(Debug, Clone)]
pub struct ResidualClassifier {
    blocks: ResidualBlocks,
    linear: Linear,
    norm: BatchNorm,
}

impl ResidualClassifier {
    /// For images (n, `in_channels`, 32, 32) and `outputs` values an image, with the lesson's channels. At first the
    /// convolutions' weights are Kaiming-normal (He 2015) for the activation's slope; all else is as PyTorch has it.
    ///
    /// # Errors
    /// When `vb` lacks a parameter in its shape.
    pub fn new(in_channels: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let blocks = ResidualBlocks::new(CHANNELS, in_channels, &vb)?;
        let linear = linear_without_bias(FEATURES, outputs, &vb)?;
        Ok(Self { blocks, linear, norm: BatchNorm::new(outputs, vb.pp("norm"))? })
    }

    /// The values under the linear layer, with the running statistics: (n, in, 32, 32) to (n, [`FEATURES`]).
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn features(&self, x: &Tensor) -> Result<Tensor> {
        self.blocks.forward(x, false)
    }

    /// Features (n, [`FEATURES`]) to (n, outputs), with the running statistics.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        self.last_layers(features, false)
    }

    fn last_layers(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        let values = self.linear.forward(features)?.unsqueeze(2)?.unsqueeze(3)?;
        self.norm.forward(&FeatureMaps::new(&values)?, train)?.to_tensor()?.flatten_from(1)
    }
}

impl ModuleT for ResidualClassifier {
    /// (n, in, 32, 32) to (n, outputs). `train` normalises by the batch's statistics and moves the running ones.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.last_layers(&self.blocks.forward(x, train)?, train)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Params, frozen};
    use crate::rng::Streams;
    use candle_core::Device;

    #[test]
    fn a_checkpoint_carries_all_that_evaluation_needs() -> Result<()> {
        let streams = Streams::new(2);
        let (model, params) = Params::init(&streams, &Device::Cpu, |vb| ResidualClassifier::new(1, 10, vb))?;
        let x = streams.normal_images("x", 0..4, &[1, 32, 32], &Device::Cpu)?;
        let logits = model.forward_t(&x, true)?;
        assert_eq!(logits.dims(), [4, 10]);
        let copy = ResidualClassifier::new(1, 10, frozen(&params.snapshot()?, &Device::Cpu))?;
        let features = model.features(&x)?;
        assert_eq!(features.dims(), [4, FEATURES]);
        assert_eq!(features.to_vec2::<f32>()?, copy.features(&x)?.to_vec2::<f32>()?);
        assert_eq!(
            model.forward_t(&x, false)?.to_vec2::<f32>()?,
            copy.forward_t(&x, false)?.to_vec2::<f32>()?
        );
        Ok(())
    }

    #[test]
    fn gradients_reach_all_parameters_but_the_statistics() -> Result<()> {
        let streams = Streams::new(3);
        let (model, params) = Params::init(&streams, &Device::Cpu, |vb| ResidualClassifier::new(2, 1, vb))?;
        let x = streams.normal_images("x", 0..4, &[2, 32, 32], &Device::Cpu)?;
        let grads = model.forward_t(&x, true)?.sqr()?.mean_all()?.backward()?;
        for (name, var) in params.vars() {
            assert_eq!(grads.get(var).is_some(), !name.contains("running_"), "{name}");
        }
        Ok(())
    }

    #[test]
    fn convolutions_begin_kaiming_normal() -> Result<()> {
        let (_, params) =
            Params::init(&Streams::new(4), &Device::Cpu, |vb| ResidualClassifier::new(1, 10, vb))?;
        let weight = params.vars()["blocks.4.conv2.weight"].flatten_all()?;
        let std = f64::from(weight.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?);
        let expected = (2.0 / 1.01 / (256.0 * 9.0f64)).sqrt();
        let relative_error = 1.0 / (2.0 * weight.elem_count() as f64).sqrt();
        assert!((std / expected - 1.0).abs() < 4.0 * relative_error, "{std} is not {expected}");
        Ok(())
    }
}
