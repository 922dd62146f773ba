//! The residual classifier: its features score the samples.

mod layers;

use crate::nn::{Conv2d, ConvShape};
use candle_core::{Module, Result, Tensor};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, Linear, ModuleT, VarBuilder};
use elucidate_kernels::{FeatureMaps, halve};
use layers::{BatchNorm, LEAK, activate};

/// Channels of the six blocks, as the lesson has them.
const CHANNELS: [usize; 6] = [16, 32, 64, 128, 256, 512];

/// How many features an image has, with the lesson's channels.
pub const FEATURES: usize = CHANNELS[5];

/// Six residual blocks (He 2015), the first with 5×5 kernels and stride 1, the others with 3×3 kernels and stride 2;
/// then a linear layer without bias and batch norm.
#[derive(Debug, Clone)]
pub struct ResidualClassifier {
    blocks: Vec<ResidualBlock>,
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
        Self::with_channels(CHANNELS, in_channels, outputs, vb)
    }

    /// As [`ResidualClassifier::new`], with other channels in the six blocks.
    ///
    /// # Errors
    /// When `vb` lacks a parameter in its shape.
    pub fn with_channels(
        channels: [usize; 6],
        in_channels: usize,
        outputs: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let mut blocks = Vec::with_capacity(channels.len());
        let mut before = in_channels;
        for (i, after) in channels.into_iter().enumerate() {
            let (kernel, stride) = if i == 0 { (5, 1) } else { (3, 2) };
            blocks.push(ResidualBlock::new(before, after, kernel, stride, vb.pp("blocks").pp(i))?);
            before = after;
        }
        let bound = 1.0 / (before as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let weight = vb.pp("linear").get_with_hints((outputs, before), "weight", init)?;
        let norm = BatchNorm::new(outputs, vb.pp("norm"))?;
        Ok(Self { blocks, linear: Linear::new(weight, None), norm })
    }

    /// The values under the linear layer, with the running statistics: (n, in, 32, 32) to (n, f), where f is the last
    /// block's channels: [`FEATURES`] with the lesson's.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn features(&self, x: &Tensor) -> Result<Tensor> {
        self.blocks(x, false)
    }

    /// Features (n, f) to (n, outputs), with the running statistics.
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

    fn blocks(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let maps = FeatureMaps::new(x)?;
        self.blocks.iter().try_fold(maps, |x, block| block.forward(&x, train))?.to_tensor()?.flatten_from(1)
    }
}

impl ModuleT for ResidualClassifier {
    /// (n, in, 32, 32) to (n, outputs). `train` normalises by the batch's statistics and moves the running ones.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.last_layers(&self.blocks(x, train)?, train)
    }
}

#[derive(Debug, Clone)]
struct ResidualBlock {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    skip: Option<Conv2d>,
    stride: usize,
}

impl ResidualBlock {
    fn new(before: usize, after: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        let kaiming = Init::Kaiming {
            dist: NormalOrUniform::Normal,
            fan: FanInOut::FanIn,
            non_linearity: NonLinearity::ExplicitGain((2.0 / (1.0 + LEAK * LEAK)).sqrt()),
        };
        let conv = |shape, name| Conv2d::with_init(shape, kaiming, vb.pp(name));
        Ok(Self {
            conv1: conv(ConvShape::same(before, after, kernel).no_bias(), "conv1")?,
            norm1: BatchNorm::new(after, vb.pp("norm1"))?,
            conv2: conv(ConvShape::same(after, after, kernel).stride(stride).no_bias(), "conv2")?,
            norm2: BatchNorm::new(after, vb.pp("norm2"))?,
            skip: (before != after).then(|| conv(ConvShape::same(before, after, 1), "skip")).transpose()?,
            stride,
        })
    }
}

impl ResidualBlock {
    /// (n, before, h, w) to (n, after, ⌈h/stride⌉, ⌈w/stride⌉).
    fn forward(&self, x: &FeatureMaps, train: bool) -> Result<FeatureMaps> {
        let y = activate(&self.norm1.forward(&self.conv1.forward(x)?, train)?)?;
        let y = self.norm2.forward(&self.conv2.forward(&y)?, train)?;
        let x = if self.stride == 1 { x.clone() } else { halve(x)? };
        let x = self.skip.iter().try_fold(x, |x, skip| skip.forward(&x))?;
        activate(&x.add(&y)?)
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
