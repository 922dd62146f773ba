//! Group normalisation, with SiLU after it in the same pass.

use crate::exp::sigmoid;
use crate::maps::{FeatureMaps, LANES, Lanes, across};
use crate::scratch::unwritten;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::sync::OnceLock;
use tracing::trace_span;

/// Group normalisation of `x` (n, c, h, w) over `groups` groups of channels with scale `weight` and shift `bias` (c)
/// (Wu & He 2018), then SiLU where `silu` says so: x's shape.
///
/// Interleaved maps are ours, others are made of candle's own ops. Both have gradients for all three. Sums do not depend
/// on the number of threads.
///
/// # Errors
/// When the shapes do not fit together or `groups` does not divide c.
pub fn group_norm(
    x: &FeatureMaps,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<FeatureMaps> {
    let (_, channels, height, width) = x.dims();
    if groups == 0 || channels % groups != 0 || weight.dims() != [channels] || bias.dims() != [channels] {
        bail!("group norm of {channels} channels with {groups} groups and weight {:?}", weight.dims());
    }
    if x.is_interleaved() {
        let per_group = channels / groups;
        let op = GroupNorm {
            channels,
            per_group,
            pixels: height * width,
            eps: eps as f32,
            silu,
            moments: OnceLock::new(),
        };
        let values = x.values.contiguous()?;
        return Ok(x.with_values(values.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?));
    }
    let dims = x.values.dims();
    let grouped = x.values.reshape((dims[0], groups, ()))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normalised = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.reshape(dims)?;
    let y = normalised
        .broadcast_mul(&weight.reshape((1, channels, 1, 1))?)?
        .broadcast_add(&bias.reshape((1, channels, 1, 1))?)?;
    Ok(x.with_values(if silu { y.silu()? } else { y }))
}

#[derive(Debug)]
struct GroupNorm {
    channels: usize,
    /// Channels in a group.
    per_group: usize,
    pixels: usize,
    eps: f32,
    silu: bool,
    /// Those of the forward pass, for each block and group.
    moments: OnceLock<Vec<Moments>>,
}

/// A group's mean and 1/√(variance + eps), for each image.
#[derive(Debug, Clone, Copy)]
struct Moments {
    mean: Lanes,
    scale: Lanes,
}

impl GroupNorm {
    fn groups(&self) -> usize {
        self.channels / self.per_group
    }

    /// Numbers in a block of images.
    fn block(&self) -> usize {
        self.pixels * self.channels * LANES
    }
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _timed = trace_span!("group norm").entered();
        let x = crate::slice(x, x_layout)?;
        let (weight, bias) = (crate::slice(weight, weight_layout)?, crate::slice(bias, bias_layout)?);
        let mut out = unwritten(x.len());
        let arch = crate::process::arch();
        let blocks = out.par_chunks_mut(self.block()).zip(x.par_chunks(self.block()));
        let moments: Vec<Vec<Moments>> =
            blocks.map(|(out, x)| arch.dispatch(Forward { op: self, x, weight, bias, out })).collect();
        self.moments.get_or_init(|| moments.concat());
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let _timed = trace_span!("group norm, gradient").entered();
        let Some(moments) = self.moments.get() else { bail!("group norm's gradient before its result") };
        let grad = grad.contiguous()?;
        let (x_values, grad_values) = (crate::values(x)?, crate::values(&grad)?);
        let (weight_values, bias_values) = (crate::values(weight)?, crate::values(bias)?);
        let (weight_slice, bias_slice) = (weight_values.get(), bias_values.get());
        let mut grad_x = unwritten(x.elem_count());
        let arch = crate::process::arch();
        let blocks: Vec<Vec<[f32; 2]>> = grad_x
            .par_chunks_mut(self.block())
            .zip(x_values.get().par_chunks(self.block()))
            .zip(grad_values.get().par_chunks(self.block()))
            .zip(moments.par_chunks(self.groups()))
            .map(|(((grad_x, x), grad), moments)| {
                let (weight, bias) = (weight_slice, bias_slice);
                arch.dispatch(Backward { op: self, x, weight, bias, grad, moments, grad_x })
            })
            .collect();
        let mut sums = vec![[0.0; 2]; self.channels];
        for block in &blocks {
            for (sum, part) in sums.iter_mut().zip(block) {
                sum[0] += part[0];
                sum[1] += part[1];
            }
        }
        let of = |i: usize| sums.iter().map(|sum| sum[i]).collect::<Vec<f32>>();
        Ok((
            Some(Tensor::from_vec(grad_x, x.shape(), x.device())?),
            Some(Tensor::from_vec(of(0), weight.shape(), x.device())?),
            Some(Tensor::from_vec(of(1), bias.shape(), x.device())?),
        ))
    }
}

/// Pixels that are worked on together, few enough to stay in the first cache.
const PIXELS: usize = 8;

/// One block forward; gives each group's moments.
struct Forward<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = Vec<Moments>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Moments> {
        let Self { op, x, weight, bias, out } = self;
        let moments = moments(op, x);
        let lines = lines(op, &moments, weight, bias);
        let pixels = x.chunks_exact(op.channels * LANES).zip(out.chunks_exact_mut(op.channels * LANES));
        for (x, out) in pixels {
            let lanes = x.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0);
            for ((x, out), (a, b)) in lanes.zip(&lines) {
                for i in 0..LANES {
                    let z = x[i].mul_add(a[i], b[i]);
                    out[i] = if op.silu { z * sigmoid(z) } else { z };
                }
            }
        }
        moments
    }
}

/// The moments of each group, in one pass: those of a few pixels at a time, joined as Chan, Golub & LeVeque 1979 do.
#[inline(always)]
fn moments(op: &GroupNorm, x: &[f32]) -> Vec<Moments> {
    let mut mean = vec![[0.0; LANES]; op.groups()];
    let mut squares = vec![[0.0; LANES]; op.groups()];
    let mut count = 0.0;
    for pixels in x.chunks(PIXELS * op.channels * LANES) {
        let new = (pixels.len() / (op.channels * LANES) * op.per_group) as f32;
        let (part, of_pair) = (new / (count + new), count * new / (count + new));
        for (g, (mean, squares)) in mean.iter_mut().zip(&mut squares).enumerate() {
            let group = || {
                let pixels = pixels.chunks_exact(op.channels * LANES);
                let of = move |pixel| group_of(op, pixel, g);
                pixels.flat_map(of)
            };
            let mut sum = [0.0; LANES];
            for x in group() {
                for i in 0..LANES {
                    sum[i] += x[i];
                }
            }
            let mut centre = [0.0; LANES];
            for i in 0..LANES {
                centre[i] = sum[i] / new;
            }
            let mut about = [0.0; LANES];
            for x in group() {
                for i in 0..LANES {
                    about[i] += (x[i] - centre[i]) * (x[i] - centre[i]);
                }
            }
            for i in 0..LANES {
                let apart = centre[i] - mean[i];
                mean[i] += apart * part;
                squares[i] += about[i] + apart * apart * of_pair;
            }
        }
        count += new;
    }
    let mut moments = vec![];
    for (mean, squares) in mean.into_iter().zip(squares) {
        let mut scale = [0.0; LANES];
        for i in 0..LANES {
            scale[i] = 1.0 / (squares[i] / count + op.eps).sqrt();
        }
        moments.push(Moments { mean, scale });
    }
    moments
}

/// The numbers of group `g` in a pixel.
#[inline(always)]
fn group_of<'a>(op: &GroupNorm, pixel: &'a [f32], g: usize) -> &'a [Lanes] {
    let size = op.per_group * LANES;
    pixel[g * size..(g + 1) * size].as_chunks::<LANES>().0
}

/// Slope and offset (a, b) of each channel: normalised, scaled and shifted, x is a·x + b.
#[inline(always)]
fn lines(op: &GroupNorm, moments: &[Moments], weight: &[f32], bias: &[f32]) -> Vec<(Lanes, Lanes)> {
    let mut lines = vec![([0.0; LANES], [0.0; LANES]); op.channels];
    for (c, (a, b)) in lines.iter_mut().enumerate() {
        let Moments { mean, scale } = &moments[c / op.per_group];
        for i in 0..LANES {
            a[i] = weight[c] * scale[i];
            b[i] = bias[c] - mean[i] * a[i];
        }
    }
    lines
}

/// One block backward; gives the gradients of each channel's weight and bias.
struct Backward<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    grad: &'a [f32],
    moments: &'a [Moments],
    grad_x: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = Vec<[f32; 2]>;

    /// With x̂ the normalised values, dz the gradient before SiLU and g = weight·dz: the gradient of x is
    /// (g − mean(g) − x̂·mean(g·x̂)) / std, means over the group.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<[f32; 2]> {
        let Self { op, x, weight, bias, grad, moments, grad_x } = self;
        let lines = lines(op, moments, weight, bias);
        // Σ dz and Σ dz·(x − mean) of each channel.
        let mut sums = vec![([0.0; LANES], [0.0; LANES]); op.channels];
        let pixel = op.channels * LANES;
        for ((x, grad), dz) in
            x.chunks_exact(pixel).zip(grad.chunks_exact(pixel)).zip(grad_x.chunks_exact_mut(pixel))
        {
            let (x, grad) = (x.as_chunks::<LANES>().0, grad.as_chunks::<LANES>().0);
            let of_channel = x.iter().zip(grad).zip(dz.as_chunks_mut::<LANES>().0).zip(&lines).zip(&mut sums);
            for (c, ((((x, grad), dz), (a, b)), (sum, sum_x))) in of_channel.enumerate() {
                let mean = &moments[c / op.per_group].mean;
                for i in 0..LANES {
                    let d = if op.silu {
                        let z = x[i].mul_add(a[i], b[i]);
                        let s = sigmoid(z);
                        grad[i] * s * z.mul_add(1.0 - s, 1.0)
                    } else {
                        grad[i]
                    };
                    dz[i] = d;
                    sum[i] += d;
                    sum_x[i] = d.mul_add(x[i] - mean[i], sum_x[i]);
                }
            }
        }
        // The gradient of x is dz·a + x·slope + offset.
        let mut rest = vec![([0.0; LANES], [0.0; LANES]); op.groups()];
        let count = (op.per_group * op.pixels) as f32;
        for (g, (slope, offset)) in rest.iter_mut().enumerate() {
            let Moments { mean, scale } = &moments[g];
            let (mut sum_g, mut sum_gx) = ([0.0; LANES], [0.0; LANES]);
            for c in g * op.per_group..(g + 1) * op.per_group {
                for i in 0..LANES {
                    sum_g[i] += weight[c] * sums[c].0[i];
                    sum_gx[i] += weight[c] * sums[c].1[i];
                }
            }
            for i in 0..LANES {
                slope[i] = -scale[i] * scale[i] * scale[i] * sum_gx[i] / count;
                offset[i] = -scale[i] * sum_g[i] / count - slope[i] * mean[i];
            }
        }
        let pixels = x.chunks_exact(op.channels * LANES).zip(grad_x.chunks_exact_mut(op.channels * LANES));
        for (x, dz) in pixels {
            let lanes = x.as_chunks::<LANES>().0.iter().zip(dz.as_chunks_mut::<LANES>().0);
            for (c, ((x, dz), (a, _))) in lanes.zip(&lines).enumerate() {
                let (slope, offset) = &rest[c / op.per_group];
                for i in 0..LANES {
                    dz[i] = dz[i].mul_add(a[i], x[i].mul_add(slope[i], offset[i]));
                }
            }
        }
        let mut totals = vec![];
        for (c, (sum, sum_x)) in sums.iter().enumerate() {
            let scale = &moments[c / op.per_group].scale;
            let mut of_weight = [0.0; LANES];
            for i in 0..LANES {
                of_weight[i] = sum_x[i] * scale[i];
            }
            totals.push([across(of_weight), across(*sum)]);
        }
        totals
    }
}
