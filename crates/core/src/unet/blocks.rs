//! What the UNet is built of: residual blocks, attention, and the levels made of them.

use crate::nn::{Conv2d, ConvShape, Dense, GroupNorm, pointwise};
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use elucidate_kernels::{FeatureMaps, attention};

/// What all blocks of one UNet share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) time_dim: usize,
    pub(super) groups: usize,
    pub(super) eps: f64,
    pub(super) head_dim: Option<usize>,
    pub(super) downsample_padding: usize,
}

/// Norm, SiLU, convolution, time added, norm, SiLU, convolution, and the input added (diffusers' `ResnetBlock2D`).
#[derive(Debug, Clone)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Dense,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    scale: f64,
}

impl ResnetBlock {
    pub(super) fn new(
        before: usize,
        after: usize,
        scale: f64,
        common: Common,
        vb: VarBuilder,
    ) -> Result<Self> {
        let Common { time_dim, groups, eps, .. } = common;
        let shortcut = || Conv2d::new(ConvShape::same(before, after, 1), vb.pp("conv_shortcut"));
        Ok(Self {
            norm1: GroupNorm::new(groups, before, eps, true, vb.pp("norm1"))?,
            conv1: Conv2d::new(ConvShape::same(before, after, 3), vb.pp("conv1"))?,
            time_emb_proj: Dense::new(time_dim, after, vb.pp("time_emb_proj"))?,
            norm2: GroupNorm::new(groups, after, eps, true, vb.pp("norm2"))?,
            conv2: Conv2d::new(ConvShape::same(after, after, 3), vb.pp("conv2"))?,
            conv_shortcut: (before != after).then(shortcut).transpose()?,
            scale,
        })
    }

    /// `x` (n, before, h, w), `time` (n, time_dim, 1, 1) after SiLU: (n, after, h, w).
    pub(super) fn forward(&self, x: &FeatureMaps, time: &FeatureMaps) -> Result<FeatureMaps> {
        let h = self.conv1.forward_shifted(&self.norm1.forward(x)?, &self.shift(time)?)?;
        let h = self.conv2.forward(&self.norm2.forward(&h)?)?;
        let sum = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(x)?.add(&h)?,
            None => x.add(&h)?,
        };
        scaled(sum, self.scale)
    }

    /// What the time adds to the first convolution, its bias included: (n, after, 1, 1).
    fn shift(&self, time: &FeatureMaps) -> Result<FeatureMaps> {
        let Dense { weight, bias } = &self.time_emb_proj;
        pointwise(time, weight, &self.conv1.bias().map_or(Ok(bias.clone()), |b| bias + b)?)
    }
}

fn scaled(sum: FeatureMaps, scale: f64) -> Result<FeatureMaps> {
    if scale == 1.0 { Ok(sum) } else { sum.scale(1.0 / scale) }
}

/// Self-attention over the pixels, with the input added (diffusers' `Attention` as its UNet blocks use it).
#[derive(Debug, Clone)]
pub(super) struct Attention {
    group_norm: GroupNorm,
    to_q: Dense,
    to_k: Dense,
    to_v: Dense,
    to_out: Dense,
    heads: usize,
    scale: f64,
}

impl Attention {
    pub(super) fn new(channels: usize, scale: f64, common: Common, vb: VarBuilder) -> Result<Self> {
        let heads = match common.head_dim {
            Some(width) if !channels.is_multiple_of(width) || channels < width => {
                bail!("attention_head_dim {width} does not divide {channels} channels")
            }
            Some(width) => channels / width,
            None => 1,
        };
        let part = |name| Dense::new(channels, channels, vb.pp(name));
        Ok(Self {
            group_norm: GroupNorm::new(common.groups, channels, common.eps, false, vb.pp("group_norm"))?,
            to_q: part("to_q")?,
            to_k: part("to_k")?,
            to_v: part("to_v")?,
            to_out: part("to_out.0")?,
            heads,
            scale,
        })
    }

    /// (n, channels, h, w) to the same.
    pub(super) fn forward(&self, x: &FeatureMaps) -> Result<FeatureMaps> {
        let (_, channels, ..) = x.dims();
        let [q, k, v] = [&self.to_q, &self.to_k, &self.to_v];
        let weight = Tensor::cat(&[&q.weight, &k.weight, &v.weight], 0)?;
        let bias = Tensor::cat(&[&q.bias, &k.bias, &v.bias], 0)?;
        let qkv = pointwise(&self.group_norm.forward(x)?, &weight, &bias)?;
        let y = attention(&qkv, self.heads, 1.0 / ((channels / self.heads) as f64).sqrt())?;
        scaled(x.add(&self.to_out.forward(&y)?)?, self.scale)
    }
}

/// Residual blocks, each with attention after it where the level has any.
#[derive(Debug, Clone)]
struct Layers {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
}

impl Layers {
    /// One residual block for each of `inputs`, the channels that it is given.
    fn new(inputs: &[usize], after: usize, attention: bool, common: Common, vb: &VarBuilder) -> Result<Self> {
        let resnet = |(i, &before): (usize, &usize)| {
            ResnetBlock::new(before, after, 1.0, common, vb.pp("resnets").pp(i))
        };
        let attend = |i: usize| Attention::new(after, 1.0, common, vb.pp("attentions").pp(i));
        let attentions = if attention { inputs.len() } else { 0 };
        Ok(Self {
            resnets: inputs.iter().enumerate().map(resnet).collect::<Result<_>>()?,
            attentions: (0..attentions).map(attend).collect::<Result<_>>()?,
        })
    }

    fn layer(&self, i: usize, x: &FeatureMaps, time: &FeatureMaps) -> Result<FeatureMaps> {
        let x = self.resnets[i].forward(x, time)?;
        match self.attentions.get(i) {
            Some(attention) => attention.forward(&x),
            None => Ok(x),
        }
    }
}

/// A level on the way down (diffusers' `DownBlock2D` and `AttnDownBlock2D`).
#[derive(Debug, Clone)]
pub(super) struct Down {
    layers: Layers,
    downsampler: Option<Conv2d>,
    padding: usize,
}

impl Down {
    pub(super) fn new(
        (before, after): (usize, usize),
        layers: usize,
        attention: bool,
        downsample: bool,
        common: Common,
        vb: VarBuilder,
    ) -> Result<Self> {
        let mut inputs = vec![after; layers];
        inputs[0] = before;
        let padding = common.downsample_padding;
        let shape = ConvShape { padding, ..ConvShape::same(after, after, 3).stride(2) };
        let conv = || Conv2d::new(shape, vb.pp("downsamplers.0.conv"));
        Ok(Self {
            layers: Layers::new(&inputs, after, attention, common, &vb)?,
            downsampler: downsample.then(conv).transpose()?,
            padding,
        })
    }

    /// Pushes what each of its steps makes onto `skips` and returns the last.
    pub(super) fn forward(
        &self,
        mut x: FeatureMaps,
        time: &FeatureMaps,
        skips: &mut Vec<FeatureMaps>,
    ) -> Result<FeatureMaps> {
        for i in 0..self.layers.resnets.len() {
            x = self.layers.layer(i, &x, time)?;
            skips.push(x.clone());
        }
        if let Some(conv) = &self.downsampler {
            // diffusers' `Downsample2D`: what is padded by none is first made larger by (0, 1, 0, 1).
            x = conv.forward(&if self.padding == 0 { x.pad_with_zeros(1)? } else { x })?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// A level on the way up (diffusers' `UpBlock2D` and `AttnUpBlock2D`).
#[derive(Debug, Clone)]
pub(super) struct Up {
    layers: Layers,
    upsampler: Option<Conv2d>,
}

impl Up {
    /// `inputs`: the channels that each residual block is given, skip included.
    pub(super) fn new(
        inputs: &[usize],
        after: usize,
        attention: bool,
        upsample: bool,
        common: Common,
        vb: VarBuilder,
    ) -> Result<Self> {
        let conv = || Conv2d::new(ConvShape::same(after, after, 3), vb.pp("upsamplers.0.conv"));
        Ok(Self {
            layers: Layers::new(inputs, after, attention, common, &vb)?,
            upsampler: upsample.then(conv).transpose()?,
        })
    }

    /// Pops its skips off `skips`.
    pub(super) fn forward(
        &self,
        mut x: FeatureMaps,
        time: &FeatureMaps,
        skips: &mut Vec<FeatureMaps>,
    ) -> Result<FeatureMaps> {
        for i in 0..self.layers.resnets.len() {
            let Some(skip) = skips.pop() else { bail!("a level on the way up has no skip left") };
            let ((_, _, height, width), (_, _, skip_height, skip_width)) = (x.dims(), skip.dims());
            if (height, width) != (skip_height, skip_width) {
                bail!("height and width must be divisible by two at every downsampling");
            }
            x = self.layers.layer(i, &x.cat(&skip)?, time)?;
        }
        match &self.upsampler {
            Some(conv) => conv.forward_upsampled(&x),
            None => Ok(x),
        }
    }
}
