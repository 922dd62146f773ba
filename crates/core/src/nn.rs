//! The layers that the models share: convolution and group norm on our kernels, with PyTorch's default
//! initialisation.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use elucidate_kernels::{FeatureMaps, Shift, conv2d, group_norm, upsample_conv2d};

/// A convolution layer with square kernels: weight (out, in, k, k), bias (out).
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}

/// What a [`Conv2d`] is made of.
#[derive(Debug, Clone, Copy)]
pub struct ConvShape {
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl ConvShape {
    /// A convolution of stride 1 that keeps height and width, with a bias; `kernel` is odd.
    pub fn same(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        Self { in_channels, out_channels, kernel, stride: 1, padding: kernel / 2, bias: true }
    }

    /// The same with another stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same without a bias.
    pub fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }
}

impl Conv2d {
    /// PyTorch's default initialisation: weight and bias uniform in ±1/√(fan in).
    ///
    /// # Errors
    /// When `vb` lacks `weight` or `bias` in this shape.
    pub fn new(shape: ConvShape, vb: VarBuilder) -> Result<Self> {
        let bound = 1.0 / ((shape.in_channels * shape.kernel * shape.kernel) as f64).sqrt();
        Self::with_init(shape, Init::Uniform { lo: -bound, up: bound }, vb)
    }

    /// With another initialisation of the weight; the bias keeps PyTorch's default.
    ///
    /// # Errors
    /// When `vb` lacks `weight` or `bias` in this shape.
    pub fn with_init(shape: ConvShape, weight: Init, vb: VarBuilder) -> Result<Self> {
        let ConvShape { in_channels, out_channels, kernel, stride, padding, bias } = shape;
        let bound = 1.0 / ((in_channels * kernel * kernel) as f64).sqrt();
        let weight = vb.get_with_hints((out_channels, in_channels, kernel, kernel), "weight", weight)?;
        let bias = match bias {
            true => Some(vb.get_with_hints(out_channels, "bias", Init::Uniform { lo: -bound, up: bound })?),
            false => None,
        };
        Ok(Self { weight, bias, stride, padding })
    }
}

impl Conv2d {
    fn shift(&self) -> Shift<'_> {
        self.bias.as_ref().map_or(Shift::None, Shift::Channels)
    }

    /// (n, in, h, w) to (n, out, h', w').
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward(&self, x: &FeatureMaps) -> Result<FeatureMaps> {
        conv2d(x, &self.weight, self.shift(), self.stride, self.padding)
    }

    /// The same with `shift` (n, out, 1, 1) in the bias's place; whoever gives it adds [`Conv2d::bias`] to it.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward_shifted(&self, x: &FeatureMaps, shift: &FeatureMaps) -> Result<FeatureMaps> {
        conv2d(x, &self.weight, Shift::Images(shift), self.stride, self.padding)
    }

    /// Upsamples by two first, each pixel becoming four; for 3×3 kernels that keep the size: (n, in, h, w) to (n, out, 2h,
    /// 2w).
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward_upsampled(&self, x: &FeatureMaps) -> Result<FeatureMaps> {
        upsample_conv2d(x, &self.weight, self.shift())
    }

    /// Its bias (out), where it has one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// Group normalisation (Wu & He 2018), with SiLU after it where asked.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
}

impl GroupNorm {
    /// Over `channels` in `groups` groups; weight one and bias zero at first.
    ///
    /// # Errors
    /// When `vb` lacks `weight` or `bias` (channels), or when `groups` does not divide `channels`.
    pub fn new(groups: usize, channels: usize, eps: f64, silu: bool, vb: VarBuilder) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            candle_core::bail!("{groups} groups do not divide {channels} channels");
        }
        let weight = vb.get_with_hints(channels, "weight", candle_nn::init::ONE)?;
        let bias = vb.get_with_hints(channels, "bias", candle_nn::init::ZERO)?;
        Ok(Self { weight, bias, groups, eps, silu })
    }
}

impl GroupNorm {
    /// (n, channels, h, w) to the same shape.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward(&self, x: &FeatureMaps) -> Result<FeatureMaps> {
        group_norm(x, &self.weight, &self.bias, self.groups, self.eps, self.silu)
    }
}

/// A linear layer over the channels: weight (out, in), bias (out).
#[derive(Debug, Clone)]
pub struct Dense {
    /// (out, in).
    pub weight: Tensor,
    /// (out).
    pub bias: Tensor,
}

impl Dense {
    /// PyTorch's default initialisation: weight and bias uniform in ±1/√in.
    ///
    /// # Errors
    /// When `vb` lacks `weight` or `bias` in this shape.
    pub fn new(in_features: usize, out_features: usize, vb: VarBuilder) -> Result<Self> {
        let bound = 1.0 / (in_features as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            weight: vb.get_with_hints((out_features, in_features), "weight", init)?,
            bias: vb.get_with_hints(out_features, "bias", init)?,
        })
    }

    /// (n, in, h, w) to (n, out, h, w).
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward(&self, x: &FeatureMaps) -> Result<FeatureMaps> {
        pointwise(x, &self.weight, &self.bias)
    }
}

/// A linear map of each pixel's channels by `weight` (out, in), and `bias` (out): (n, in, h, w) to (n, out, h, w).
///
/// # Errors
/// When the shapes do not fit.
pub fn pointwise(x: &FeatureMaps, weight: &Tensor, bias: &Tensor) -> Result<FeatureMaps> {
    conv2d(x, &weight.unsqueeze(2)?.unsqueeze(3)?, Shift::Channels(bias), 1, 0)
}
