//! Residual networks (He 2015): the classifier whose features score the samples, and the reader of noise levels that shares
//! its blocks.

mod classifier;
mod layers;
mod noise_level;

pub use classifier::{FEATURES, ResidualClassifier};
pub use noise_level::{DROPOUT, NoiseLevelNetwork, dropout_mask};

use crate::nn::{Conv2d, ConvShape};
use candle_core::{Result, Tensor};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, Linear, VarBuilder};
use elucidate_kernels::{FeatureMaps, halve};
use layers::{BatchNorm, LEAK, activate};

/// Six residual blocks, the first with 5×5 kernels and stride 1, the others with 3×3 kernels and stride 2: (n, in, 32, 32)
/// to (n, f), where f is the last block's channels. At first the convolutions' weights are Kaiming-normal (He 2015) for the
/// activation's slope.
#[derive(Debug, Clone)]
struct ResidualBlocks(Vec<ResidualBlock>);

impl ResidualBlocks {
    fn new(channels: [usize; 6], in_channels: usize, vb: &VarBuilder) -> Result<Self> {
        let mut blocks = Vec::with_capacity(channels.len());
        let mut before = in_channels;
        for (i, after) in channels.into_iter().enumerate() {
            let (kernel, stride) = if i == 0 { (5, 1) } else { (3, 2) };
            blocks.push(ResidualBlock::new(before, after, kernel, stride, vb.pp("blocks").pp(i))?);
            before = after;
        }
        Ok(Self(blocks))
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let maps = FeatureMaps::new(x)?;
        self.0.iter().try_fold(maps, |x, block| block.forward(&x, train))?.to_tensor()?.flatten_from(1)
    }
}

/// A linear layer without bias, `weight` at first as PyTorch has it.
fn linear_without_bias(inputs: usize, outputs: usize, vb: &VarBuilder) -> Result<Linear> {
    let bound = 1.0 / (inputs as f64).sqrt();
    let init = Init::Uniform { lo: -bound, up: bound };
    Ok(Linear::new(vb.pp("linear").get_with_hints((outputs, inputs), "weight", init)?, None))
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
