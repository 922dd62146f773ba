//! Batch normalisation by the batch's own statistics.

use crate::sum::sum;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// What [`batch_norm`] gives.
#[derive(Debug, Clone)]
pub struct BatchNormed {
    /// The normalised values, (n, c, size).
    pub y: Tensor,
    /// The batch's mean (c), without gradient.
    pub mean: Tensor,
    /// The batch's variance (c), divided by n·size, without gradient.
    pub var: Tensor,
}

/// Normalises each channel of `x` (n, c, size) by its own mean and variance, then scales and shifts it by `weight` and
/// `bias` (c) (Ioffe & Szegedy 2015, algorithm 1).
///
/// On the CPU in f32 it is ours; on other devices, in other types and where [`crate::force_candle_ops`] says so it is
/// made of candle's own ops. Both have gradients for all three. Sums do not depend on the number of threads.
///
/// # Errors
/// When the shapes do not fit together, or there are no numbers.
pub fn batch_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormed> {
    let c = x.dim(1)?;
    if !crate::ours(x) {
        let mean = x.mean_keepdim((0, 2))?;
        let centred = x.broadcast_sub(&mean)?;
        let var = centred.sqr()?.mean_keepdim((0, 2))?;
        let scale = weight.reshape((1, c, 1))?.div(&(&var + eps)?.sqrt()?)?;
        let y = centred.broadcast_mul(&scale)?.broadcast_add(&bias.reshape((1, c, 1))?)?;
        return Ok(BatchNormed { y, mean: mean.detach().flatten_all()?, var: var.detach().flatten_all()? });
    }
    let x = x.contiguous()?;
    let (mean, var) = moments(crate::values(&x)?.get(), Planes::of(x.shape())?);
    let inverse_std = var.iter().map(|var| 1.0 / (var + eps as f32).sqrt()).collect();
    let op = Normalise { mean: mean.clone(), inverse_std };
    Ok(BatchNormed {
        y: x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?,
        mean: Tensor::from_vec(mean, c, x.device())?,
        var: Tensor::from_vec(var, c, x.device())?,
    })
}

/// How the numbers of a contiguous (n, c, size) lie: plane p, of `size` numbers, belongs to channel p mod c.
#[derive(Clone, Copy)]
struct Planes {
    count: usize,
    channels: usize,
    size: usize,
}

impl Planes {
    fn of(shape: &Shape) -> Result<Self> {
        let (n, channels, size) = shape.dims3()?;
        if shape.elem_count() == 0 {
            bail!("batch norm of no numbers at all: {shape:?}");
        }
        Ok(Self { count: n * channels, channels, size })
    }

    /// Σ of `part`(channel, where the plane lies) over each channel's planes, in a fixed order.
    fn sum(self, part: impl Fn(usize, Range<usize>) -> f32 + Sync) -> Vec<f64> {
        let parts: Vec<f32> = (0..self.count)
            .into_par_iter()
            .map(|p| part(p % self.channels, p * self.size..(p + 1) * self.size))
            .collect();
        let of_channel = |c: usize| parts[c..].iter().step_by(self.channels);
        (0..self.channels).map(|c| of_channel(c).map(|&part| f64::from(part)).sum()).collect()
    }

    /// Numbers in a channel.
    fn per_channel(self) -> f64 {
        (self.count / self.channels * self.size) as f64
    }
}

/// Mean and variance of each channel.
fn moments(x: &[f32], planes: Planes) -> (Vec<f32>, Vec<f32>) {
    let mean_of = |sums: Vec<f64>| -> Vec<f32> {
        sums.into_iter().map(|sum| (sum / planes.per_channel()) as f32).collect()
    };
    let mean = mean_of(planes.sum(|_, at| sum(&x[at.clone()], &x[at], |x, _| x)));
    let var = mean_of(planes.sum(|c, at| sum(&x[at.clone()], &x[at], |x, _| (x - mean[c]) * (x - mean[c]))));
    (mean, var)
}

struct Normalise {
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch-norm"
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
        let (x, planes) = (crate::slice(x, x_layout)?, Planes::of(x_layout.shape())?);
        let (weight, bias) = (crate::slice(weight, weight_layout)?, crate::slice(bias, bias_layout)?);
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(planes.size).zip(x.par_chunks(planes.size)).enumerate().for_each(|(p, (y, x))| {
            let c = p % planes.channels;
            let scale = weight[c] * self.inverse_std[c];
            let shift = bias[c] - scale * self.mean[c];
            y.iter_mut().zip(x).for_each(|(y, x)| *y = scale * x + shift);
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    /// With x̂ the normalised values and g the gradient of y: the gradient of weight is Σ g·x̂, of bias Σ g, and of x
    /// weight/std·(g − mean(g) − x̂·mean(g·x̂)), sums and means over the channel.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let planes = Planes::of(x.shape())?;
        let grad = grad.contiguous()?;
        let (x_values, weight_values, grad_values) =
            (crate::values(x)?, crate::values(weight)?, crate::values(&grad)?);
        let [grad_x, grad_weight, grad_bias] =
            self.backward(planes, x_values.get(), weight_values.get(), grad_values.get());
        Ok((
            Some(Tensor::from_vec(grad_x, x.shape(), x.device())?),
            Some(Tensor::from_vec(grad_weight, weight.shape(), x.device())?),
            Some(Tensor::from_vec(grad_bias, weight.shape(), x.device())?),
        ))
    }
}

impl Normalise {
    /// The gradients of x, weight and bias.
    fn backward(&self, planes: Planes, x: &[f32], weight: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
        let Self { mean, inverse_std } = self;
        let sum_g = planes.sum(|_, at| sum(&grad[at.clone()], &x[at], |g, _| g));
        let sum_gx =
            planes.sum(|c, at| sum(&grad[at.clone()], &x[at], |g, x| g * (x - mean[c])) * inverse_std[c]);
        let mut grad_x = vec![0.0; x.len()];
        grad_x.par_chunks_mut(planes.size).enumerate().for_each(|(p, out)| {
            let (c, from) = (p % planes.channels, p * planes.size);
            let of_g = weight[c] * inverse_std[c];
            let of_x = -of_g * inverse_std[c] * (sum_gx[c] / planes.per_channel()) as f32;
            let shift = -of_g * (sum_g[c] / planes.per_channel()) as f32 - of_x * mean[c];
            let plane = from..from + planes.size;
            for ((out, g), x) in out.iter_mut().zip(&grad[plane.clone()]).zip(&x[plane]) {
                *out = of_g * g + of_x * x + shift;
            }
        });
        let single = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
        [grad_x, single(sum_gx), single(sum_g)]
    }
}
