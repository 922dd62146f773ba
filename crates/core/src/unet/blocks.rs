//! What the UNet is built of: residual blocks, attention, and the levels made of them.

use crate::nn::{Conv2d, ConvShape, GroupNorm, linear};
use candle_core::{D, Module, Result, Tensor, bail};
use candle_nn::{Linear, VarBuilder};

/// What all blocks of one UNet share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) time_dim: usize,
    pub(super) groups: usize,
    pub(super) eps: f64,
    pub(super) head_dim: Option<usize>,
}

/// Norm, SiLU, convolution, time added, norm, SiLU, convolution, and the input added (diffusers' `ResnetBlock2D`).
#[derive(Debug, Clone)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
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
            time_emb_proj: linear(time_dim, after, vb.pp("time_emb_proj"))?,
            norm2: GroupNorm::new(groups, after, eps, true, vb.pp("norm2"))?,
            conv2: Conv2d::new(ConvShape::same(after, after, 3), vb.pp("conv2"))?,
            conv_shortcut: (before != after).then(shortcut).transpose()?,
            scale,
        })
    }

    /// `x` (n, before, h, w), `time` (n, time_dim) after SiLU: (n, after, h, w).
    pub(super) fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?)?;
        let time = self.time_emb_proj.forward(time)?.unsqueeze(2)?.unsqueeze(3)?;
        let h = h.broadcast_add(&time)?;
        let h = self.conv2.forward(&self.norm2.forward(&h)?)?;
        let sum = match &self.conv_shortcut {
            Some(shortcut) => (shortcut.forward(x)? + h)?,
            None => (x + h)?,
        };
        scaled(sum, self.scale)
    }
}

fn scaled(sum: Tensor, scale: f64) -> Result<Tensor> {
    if scale == 1.0 { Ok(sum) } else { sum / scale }
}

/// Self-attention over the pixels, with the input added (diffusers' `Attention` as its UNet blocks use it).
#[derive(Debug, Clone)]
pub(super) struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
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
        let part = |name| linear(channels, channels, vb.pp(name));
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
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, channels, height, width) = x.dims4()?;
        let pixels = self.group_norm.forward(x)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let head_dim = channels / self.heads;
        let split = |part: &Linear| -> Result<Tensor> {
            let y = part.forward(&pixels)?.reshape((n, height * width, self.heads, head_dim))?;
            y.transpose(1, 2)?.contiguous()?.flatten(0, 1)
        };
        let scale = 1.0 / (head_dim as f64).sqrt();
        let y = elucidate_kernels::attention(
            &split(&self.to_q)?,
            &split(&self.to_k)?,
            &split(&self.to_v)?,
            scale,
        )?;
        let y = y.reshape((n, self.heads, height * width, head_dim))?.transpose(1, 2)?.flatten_from(2)?;
        let y = self.to_out.forward(&y)?.transpose(1, D::Minus1)?.reshape((n, channels, height, width))?;
        scaled((x + y)?, self.scale)
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

    fn layer(&self, i: usize, x: &Tensor, time: &Tensor) -> Result<Tensor> {
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
        let shape = ConvShape::same(after, after, 3).stride(2);
        let conv = || Conv2d::new(shape, vb.pp("downsamplers.0.conv"));
        Ok(Self {
            layers: Layers::new(&inputs, after, attention, common, &vb)?,
            downsampler: downsample.then(conv).transpose()?,
        })
    }

    /// Pushes what each of its steps makes onto `skips` and returns the last.
    pub(super) fn forward(&self, mut x: Tensor, time: &Tensor, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        for i in 0..self.layers.resnets.len() {
            x = self.layers.layer(i, &x, time)?;
            skips.push(x.clone());
        }
        if let Some(conv) = &self.downsampler {
            x = conv.forward(&x)?;
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
    pub(super) fn forward(&self, mut x: Tensor, time: &Tensor, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        for i in 0..self.layers.resnets.len() {
            let Some(skip) = skips.pop() else { bail!("a level on the way up has no skip left") };
            if x.dims()[2..] != skip.dims()[2..] {
                bail!("height and width must be divisible by two at every downsampling");
            }
            x = self.layers.layer(i, &Tensor::cat(&[&x, &skip], 1)?, time)?;
        }
        match &self.upsampler {
            Some(conv) => {
                let (_, _, height, width) = x.dims4()?;
                conv.forward(&x.upsample_nearest2d(2 * height, 2 * width)?)
            }
            None => Ok(x),
        }
    }
}
