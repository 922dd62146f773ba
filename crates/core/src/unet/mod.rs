//! The UNet of the experiments: diffusers' `UNet2DModel`, with its configuration keys and parameter names.

mod blocks;
mod config;
mod folder;
mod init;
mod weights;

pub use config::{DownBlock, UNet2DConfig, UpBlock};
pub use folder::{load_model, save_model};
pub use init::notebook_init;
pub use weights::{ModelFiles, WEIGHTS};

use crate::nn::{Conv2d, ConvShape, Dense, GroupNorm};
use blocks::{Attention, Common, Down, ResnetBlock, Up};
use candle_core::{D, Result, Tensor, bail};
use candle_nn::VarBuilder;
use elucidate_kernels::FeatureMaps;

/// diffusers' `UNet2DModel`: a U-shaped stack of residual blocks with attention, told a time for each image (Ho 2020,
/// appendix B).
#[derive(Debug, Clone)]
pub struct UNet2DModel {
    config: UNet2DConfig,
    conv_in: Conv2d,
    time_embedding: (Dense, Dense),
    down_blocks: Vec<Down>,
    mid_resnets: (ResnetBlock, ResnetBlock),
    mid_attention: Option<Attention>,
    up_blocks: Vec<Up>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet2DModel {
    /// Builds it from the parameters in `vb`.
    ///
    /// # Errors
    /// When the configuration is impossible, or when `vb` lacks a parameter in its shape.
    pub fn new(config: &UNet2DConfig, vb: VarBuilder) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        let channels = &config.block_out_channels;
        let (top, bottom) = (channels[0], channels[channels.len() - 1]);
        let common = Common {
            time_dim: 4 * top,
            groups: config.norm_num_groups,
            eps: config.norm_eps,
            head_dim: config.attention_head_dim,
            downsample_padding: config.downsample_padding,
        };
        let of_attention = Common { groups: config.attn_norm_num_groups.unwrap_or(common.groups), ..common };
        let mid = vb.pp("mid_block");
        let mid_resnet = |i: usize| {
            ResnetBlock::new(bottom, bottom, config.mid_block_scale_factor, common, mid.pp("resnets").pp(i))
        };
        let mid_attention =
            || Attention::new(bottom, config.mid_block_scale_factor, of_attention, mid.pp("attentions.0"));
        let time = vb.pp("time_embedding");
        Ok(Self {
            conv_in: Conv2d::new(ConvShape::same(config.in_channels, top, 3), vb.pp("conv_in"))?,
            time_embedding: (
                Dense::new(top, common.time_dim, time.pp("linear_1"))?,
                Dense::new(common.time_dim, common.time_dim, time.pp("linear_2"))?,
            ),
            down_blocks: down_blocks(config, common, vb.pp("down_blocks"))?,
            mid_resnets: (mid_resnet(0)?, mid_resnet(1)?),
            mid_attention: config.add_attention.then(mid_attention).transpose()?,
            up_blocks: up_blocks(config, common, vb.pp("up_blocks"))?,
            conv_norm_out: GroupNorm::new(
                config.norm_num_groups,
                top,
                config.norm_eps,
                true,
                vb.pp("conv_norm_out"),
            )?,
            conv_out: Conv2d::new(ConvShape::same(top, config.out_channels, 3), vb.pp("conv_out"))?,
            config: config.clone(),
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &UNet2DConfig {
        &self.config
    }

    /// The network's output (n, out_channels, h, w) for `sample` (n, in_channels, h, w) and the time of each image,
    /// `timestep` (n), or one time for all, () or (1); h and w are divisible by two at every downsampling.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, sample: &Tensor, timestep: &Tensor) -> Result<Tensor> {
        let time = timestep_embedding(
            &one_for_each(timestep, sample.dim(0)?)?.to_dtype(sample.dtype())?,
            self.config.block_out_channels[0],
            self.config.flip_sin_to_cos,
            self.config.freq_shift,
        )?;
        let (linear_1, linear_2) = &self.time_embedding;
        // Every residual block puts the embedding through SiLU first: once is enough.
        let time = FeatureMaps::new(&time.unsqueeze(2)?.unsqueeze(3)?)?;
        let time = linear_2.forward(&linear_1.forward(&time)?.silu()?)?.silu()?;
        let sample = if self.config.center_input_sample { sample.affine(2.0, -1.0)? } else { sample.clone() };
        let mut x = self.conv_in.forward(&FeatureMaps::new(&sample)?)?;
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(x, &time, &mut skips)?;
        }
        x = self.mid_resnets.0.forward(&x, &time)?;
        if let Some(attention) = &self.mid_attention {
            x = attention.forward(&x)?;
        }
        x = self.mid_resnets.1.forward(&x, &time)?;
        for block in &self.up_blocks {
            x = block.forward(x, &time, &mut skips)?;
        }
        self.conv_out.forward(&self.conv_norm_out.forward(&x)?)?.to_tensor()
    }
}

fn down_blocks(config: &UNet2DConfig, common: Common, vb: VarBuilder) -> Result<Vec<Down>> {
    let channels = &config.block_out_channels;
    let block = |(i, kind): (usize, &DownBlock)| {
        let before = channels[i.saturating_sub(1)];
        let attention = *kind == DownBlock::AttnDownBlock2D;
        let downsample = i + 1 < channels.len();
        Down::new((before, channels[i]), config.layers_per_block, attention, downsample, common, vb.pp(i))
    };
    config.down_block_types.iter().enumerate().map(block).collect()
}

fn up_blocks(config: &UNet2DConfig, common: Common, vb: VarBuilder) -> Result<Vec<Up>> {
    let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
    let block = |(i, kind): (usize, &UpBlock)| {
        let (before, after) = (channels[i.saturating_sub(1)], channels[i]);
        let last_skip = channels[(i + 1).min(channels.len() - 1)];
        let layers = config.layers_per_block + 1;
        let input = |layer: usize| {
            let from = if layer == 0 { before } else { after };
            from + if layer + 1 == layers { last_skip } else { after }
        };
        let inputs: Vec<usize> = (0..layers).map(input).collect();
        let attention = *kind == UpBlock::AttnUpBlock2D;
        Up::new(&inputs, after, attention, i + 1 < channels.len(), common, vb.pp(i))
    };
    config.up_block_types.iter().enumerate().map(block).collect()
}

/// `timestep` as one time for each of `images`: (n), or the same for all, () or (1).
fn one_for_each(timestep: &Tensor, images: usize) -> Result<Tensor> {
    match timestep.dims() {
        [] | [1] => timestep.reshape(1)?.broadcast_as(images),
        &[times] if times == images => Ok(timestep.clone()),
        dims => {
            bail!("timestep has shape {dims:?}: give one time for each of {images} images, or one for all")
        }
    }
}

/// Sines and cosines of `timestep` (n) at `dim`/2 frequencies from 1 down to 1/10,000 (Vaswani 2017, section 3.5):
/// (n, `dim`).
fn timestep_embedding(
    timestep: &Tensor,
    dim: usize,
    flip_sin_to_cos: bool,
    freq_shift: f64,
) -> Result<Tensor> {
    let half = dim / 2;
    let frequency = |i: usize| (-(10_000f64.ln()) * i as f64 / (half as f64 - freq_shift)).exp();
    let frequencies =
        Tensor::from_iter((0..half).map(frequency), timestep.device())?.to_dtype(timestep.dtype())?;
    let angles = timestep.unsqueeze(1)?.broadcast_mul(&frequencies.unsqueeze(0)?)?;
    let (sin, cos) = (angles.sin()?, angles.cos()?);
    let embedding = match flip_sin_to_cos {
        true => Tensor::cat(&[cos, sin], D::Minus1)?,
        false => Tensor::cat(&[sin, cos], D::Minus1)?,
    };
    embedding.pad_with_zeros(D::Minus1, 0, dim % 2)
}
