//! Group normalisation, with SiLU after it in the same pass.

use crate::exp::exp;
use crate::sum::sum;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Group normalisation of `x` (n, c, …) over `groups` groups of channels with scale `weight` and shift `bias` (c)
/// (Wu & He 2018), then SiLU where `silu` says so: x's shape.
///
/// On the CPU in f32 it is ours; on other devices, in other types and where [`crate::force_candle_ops`] says so it is
/// made of candle's own ops. Both have gradients for all three. Sums do not depend on the number of threads.
///
/// # Errors
/// When the shapes do not fit together or `groups` does not divide c.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Tensor> {
    let channels = x.dim(1)?;
    if groups == 0 || channels % groups != 0 || weight.dims() != [channels] || bias.dims() != [channels] {
        bail!("group norm of {channels} channels with {groups} groups and weight {:?}", weight.dims());
    }
    if crate::ours(x) && weight.dtype() == DType::F32 {
        let size = x.elem_count() / (x.dim(0)? * channels).max(1);
        let op = GroupNorm { channels, per_group: channels / groups, size, eps: eps as f32, silu };
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op);
    }
    let dims = x.dims();
    let grouped = x.reshape((dims[0], groups, x.elem_count() / (dims[0] * groups)))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normalised = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.reshape(dims)?;
    let mut per_channel = vec![1; dims.len()];
    per_channel[1] = channels;
    let y = normalised
        .broadcast_mul(&weight.reshape(per_channel.as_slice())?)?
        .broadcast_add(&bias.reshape(per_channel.as_slice())?)?;
    if silu { y.silu() } else { Ok(y) }
}

#[derive(Debug, Clone, Copy)]
struct GroupNorm {
    channels: usize,
    /// Channels in a group.
    per_group: usize,
    /// Numbers in a channel of one image.
    size: usize,
    eps: f32,
    silu: bool,
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
        let values = crate::slice(x, x_layout)?;
        let (weight, bias) = (crate::slice(weight, weight_layout)?, crate::slice(bias, bias_layout)?);
        let mut out = vec![0.0; values.len()];
        let image = self.channels * self.size;
        let arch = Arch::new();
        out.par_chunks_mut(image).zip(values.par_chunks(image)).for_each(|(out, x)| {
            arch.dispatch(Forward { op: self, x, weight, bias, out });
        });
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
        let grad = grad.contiguous()?;
        let (x_values, grad_values) = (crate::values(x)?, crate::values(&grad)?);
        let (weight_values, bias_values) = (crate::values(weight)?, crate::values(bias)?);
        let (weight_slice, bias_slice) = (weight_values.get(), bias_values.get());
        let image = self.channels * self.size;
        let mut grad_x = vec![0.0; x.elem_count()];
        let arch = Arch::new();
        let images: Vec<Vec<f32>> = grad_x
            .par_chunks_mut(image)
            .zip(x_values.get().par_chunks(image))
            .zip(grad_values.get().par_chunks(image))
            .map(|((grad_x, x), grad)| {
                let mut sums = vec![0.0; 2 * self.channels];
                let sums_mut = &mut sums;
                let (weight, bias) = (weight_slice, bias_slice);
                arch.dispatch(Backward { op: self, x, weight, bias, grad, grad_x, sums: sums_mut });
                sums
            })
            .collect();
        let mut sums = vec![0.0; 2 * self.channels];
        for image in images {
            sums.iter_mut().zip(image).for_each(|(sum, value)| *sum += value);
        }
        let grad_bias = sums.split_off(self.channels);
        Ok((
            Some(Tensor::from_vec(grad_x, x.shape(), x.device())?),
            Some(Tensor::from_vec(sums, weight.shape(), x.device())?),
            Some(Tensor::from_vec(grad_bias, bias.shape(), x.device())?),
        ))
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Mean and 1/√(variance + eps) of a group's values.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x, x, |a, _| a) / n;
    let variance = sum(x, x, |a, _| (a - mean) * (a - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// One image forward.
struct Forward<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, x, weight, bias, out } = self;
        let group = op.per_group * op.size;
        for (g, (x, out)) in x.chunks_exact(group).zip(out.chunks_exact_mut(group)).enumerate() {
            let (mean, scale) = moments(x, op.eps);
            for (c, (x, out)) in x.chunks_exact(op.size).zip(out.chunks_exact_mut(op.size)).enumerate() {
                let c = g * op.per_group + c;
                let a = weight[c] * scale;
                let b = bias[c] - mean * a;
                for (&x, out) in x.iter().zip(out) {
                    let z = x * a + b;
                    *out = if op.silu { z * sigmoid(z) } else { z };
                }
            }
        }
    }
}

/// One image backward. `sums` gets the gradients of the weight and then of the bias.
struct Backward<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    grad: &'a [f32],
    grad_x: &'a mut [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    /// With x̂ the normalised values, dz the gradient before SiLU and g = weight·dz: the gradient of x is
    /// (g − mean(g) − x̂·mean(g·x̂)) / std, means over the group.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, x, weight, bias, grad, grad_x, sums } = self;
        let (grad_weight, grad_bias) = sums.split_at_mut(op.channels);
        let group = op.per_group * op.size;
        let groups = x.chunks_exact(group).zip(grad.chunks_exact(group)).zip(grad_x.chunks_exact_mut(group));
        for (g, ((x, grad), dz)) in groups.enumerate() {
            let (mean, scale) = moments(x, op.eps);
            let (mut mean_g, mut mean_gx) = (0.0, 0.0);
            for i in 0..op.per_group {
                let c = g * op.per_group + i;
                let channel = i * op.size..(i + 1) * op.size;
                let (x, grad, dz) = (&x[channel.clone()], &grad[channel.clone()], &mut dz[channel]);
                let a = weight[c] * scale;
                let b = bias[c] - mean * a;
                for ((&x, &grad), dz) in x.iter().zip(grad).zip(&mut *dz) {
                    let z = x * a + b;
                    let s = sigmoid(z);
                    *dz = if op.silu { grad * s * (1.0 + z * (1.0 - s)) } else { grad };
                }
                grad_bias[c] = sum(dz, dz, |d, _| d);
                grad_weight[c] = sum(dz, x, |d, x| d * (x - mean)) * scale;
                mean_g += weight[c] * grad_bias[c];
                mean_gx += weight[c] * grad_weight[c];
            }
            mean_g /= group as f32;
            mean_gx /= group as f32;
            for i in 0..op.per_group {
                let channel = i * op.size..(i + 1) * op.size;
                let a = weight[g * op.per_group + i] * scale;
                for (&x, dz) in x[channel.clone()].iter().zip(&mut dz[channel]) {
                    *dz = *dz * a - scale * (mean_g + (x - mean) * scale * mean_gx);
                }
            }
        }
    }
}
