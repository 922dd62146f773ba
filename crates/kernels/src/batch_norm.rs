//! Batch normalisation by the batch's own statistics.

use crate::maps::{FeatureMaps, LANES, Lanes};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// What [`batch_norm`] gives.
#[derive(Debug, Clone)]
pub struct BatchNormed {
    /// The normalised values, x's shape.
    pub y: FeatureMaps,
    /// The batch's mean (c), without gradient.
    pub mean: Tensor,
    /// The batch's variance (c), divided by n·h·w, without gradient.
    pub var: Tensor,
}

/// Normalises each channel of `x` (n, c, h, w) by its own mean and variance, then scales and shifts it by `weight` and
/// `bias` (c) (Ioffe & Szegedy 2015, algorithm 1).
///
/// Interleaved maps are ours, others are made of candle's own ops. Both have gradients for all three. Sums do not depend
/// on the number of threads.
///
/// # Errors
/// When the shapes do not fit together.
pub fn batch_norm(x: &FeatureMaps, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormed> {
    let (images, channels, height, width) = x.dims();
    if !x.is_interleaved() {
        let mean = x.values.mean_keepdim((0, 2, 3))?;
        let centred = x.values.broadcast_sub(&mean)?;
        let var = centred.sqr()?.mean_keepdim((0, 2, 3))?;
        let scale = weight.reshape((1, channels, 1, 1))?.div(&(&var + eps)?.sqrt()?)?;
        let y = centred.broadcast_mul(&scale)?.broadcast_add(&bias.reshape((1, channels, 1, 1))?)?;
        let (mean, var) = (mean.detach().flatten_all()?, var.detach().flatten_all()?);
        return Ok(BatchNormed { y: x.with_values(y), mean, var });
    }
    let values = x.values.contiguous()?;
    let batch = Batch { images, channels, pixels: height * width };
    let (mean, var) = batch.moments(crate::values(&values)?.get());
    let inverse_std = var.iter().map(|var| 1.0 / (var + eps as f32).sqrt()).collect();
    let op = Normalise { batch, mean: mean.clone(), inverse_std };
    Ok(BatchNormed {
        y: x.with_values(values.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?),
        mean: Tensor::from_vec(mean, channels, values.device())?,
        var: Tensor::from_vec(var, channels, values.device())?,
    })
}

/// Sizes of interleaved maps.
#[derive(Debug, Clone, Copy)]
struct Batch {
    images: usize,
    channels: usize,
    pixels: usize,
}

impl Batch {
    /// Numbers in a block of images.
    fn block(self) -> usize {
        self.pixels * self.channels * LANES
    }

    /// Lanes of a block that hold images.
    fn lanes(self, block: usize) -> usize {
        LANES.min(self.images - block * LANES)
    }

    /// Numbers in a channel.
    fn per_channel(self) -> f64 {
        (self.images * self.pixels) as f64
    }

    /// Σ `part`(channel, where its lanes are) over the pixels of each block, then over images, for each channel.
    fn sum(self, part: impl Fn(usize, usize, &mut Lanes) + Sync) -> Vec<f64> {
        let blocks: Vec<Vec<f64>> = (0..self.images.div_ceil(LANES))
            .into_par_iter()
            .map(|block| {
                let of_channel = |c: usize| {
                    let mut lanes = [0.0; LANES];
                    for pixel in 0..self.pixels {
                        part(c, ((block * self.pixels + pixel) * self.channels + c) * LANES, &mut lanes);
                    }
                    lanes[..self.lanes(block)].iter().map(|&lane| f64::from(lane)).sum()
                };
                (0..self.channels).map(of_channel).collect()
            })
            .collect();
        (0..self.channels).map(|c| blocks.iter().map(|block| block[c]).sum()).collect()
    }

    /// Mean and variance of each channel.
    fn moments(self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mean_of = |sums: Vec<f64>| -> Vec<f32> {
            sums.into_iter().map(|sum| (sum / self.per_channel()) as f32).collect()
        };
        let mean = mean_of(self.sum(|_, at, lanes| {
            lanes.iter_mut().zip(&x[at..at + LANES]).for_each(|(sum, x)| *sum += x);
        }));
        let var = mean_of(self.sum(|c, at, lanes| {
            let square = |x: f32| (x - mean[c]) * (x - mean[c]);
            lanes.iter_mut().zip(&x[at..at + LANES]).for_each(|(sum, &x)| *sum += square(x));
        }));
        (mean, var)
    }
}

struct Normalise {
    batch: Batch,
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
        let x = crate::slice(x, x_layout)?;
        let (weight, bias) = (crate::slice(weight, weight_layout)?, crate::slice(bias, bias_layout)?);
        let channels = self.batch.channels;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(channels * LANES).zip(x.par_chunks(channels * LANES)).for_each(|(y, x)| {
            for (c, (y, x)) in y.chunks_exact_mut(LANES).zip(x.chunks_exact(LANES)).enumerate() {
                let scale = weight[c] * self.inverse_std[c];
                let shift = bias[c] - scale * self.mean[c];
                y.iter_mut().zip(x).for_each(|(y, x)| *y = scale * x + shift);
            }
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    /// With x̂ the normalised values and g the gradient of y: the gradient of weight is Σ g·x̂, of bias Σ g, and of x
    /// weight/std·(g − mean(g) − x̂·mean(g·x̂)), sums and means over the channel. It is zero where there is no image.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_values, weight_values, grad_values) =
            (crate::values(x)?, crate::values(weight)?, crate::values(&grad)?);
        let [grad_x, grad_weight, grad_bias] =
            self.backward(x_values.get(), weight_values.get(), grad_values.get());
        Ok((
            Some(Tensor::from_vec(grad_x, x.shape(), x.device())?),
            Some(Tensor::from_vec(grad_weight, weight.shape(), x.device())?),
            Some(Tensor::from_vec(grad_bias, weight.shape(), x.device())?),
        ))
    }
}

impl Normalise {
    /// The gradients of x, weight and bias.
    fn backward(&self, x: &[f32], weight: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
        let Self { batch, mean, inverse_std } = self;
        let sum_g = batch.sum(|_, at, lanes| {
            lanes.iter_mut().zip(&grad[at..at + LANES]).for_each(|(sum, g)| *sum += g);
        });
        let sum_gx = batch.sum(|c, at, lanes| {
            let pairs = grad[at..at + LANES].iter().zip(&x[at..at + LANES]);
            lanes.iter_mut().zip(pairs).for_each(|(sum, (g, x))| *sum += g * (x - mean[c]) * inverse_std[c]);
        });
        let size = batch.channels * LANES;
        let mut grad_x = vec![0.0; x.len()];
        grad_x.par_chunks_mut(batch.block()).enumerate().for_each(|(block, out)| {
            let images = batch.lanes(block);
            for (i, out) in out.chunks_exact_mut(LANES).enumerate() {
                let (c, at) = (i % batch.channels, block * batch.pixels * size + i * LANES);
                let of_g = weight[c] * inverse_std[c];
                let of_x = -of_g * inverse_std[c] * (sum_gx[c] / batch.per_channel()) as f32;
                let shift = -of_g * (sum_g[c] / batch.per_channel()) as f32 - of_x * mean[c];
                for (lane, out) in out[..images].iter_mut().enumerate() {
                    *out = of_g * grad[at + lane] + of_x * x[at + lane] + shift;
                }
            }
        });
        let single = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
        [grad_x, single(sum_gx), single(sum_g)]
    }
}
