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

    /// Numbers that a task works on.
    fn band(&self) -> usize {
        BAND * self.channels * LANES
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
        let moments: Vec<Vec<Moments>> = x
            .par_chunks(self.block())
            .map(|x| {
                let parts: Vec<Vec<Spread>> =
                    x.par_chunks(self.band()).map(|x| arch.dispatch(Spreads { op: self, x })).collect();
                joined(parts, self.eps)
            })
            .collect();
        out.par_chunks_mut(self.block()).zip(x.par_chunks(self.block())).zip(&moments).for_each(
            |((out, x), moments)| {
                let lines = lines(self, moments, weight, bias);
                out.par_chunks_mut(self.band()).zip(x.par_chunks(self.band())).for_each(|(out, x)| {
                    arch.dispatch(Forward { op: self, x, lines: &lines, out });
                });
            },
        );
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
                let lines = lines(self, moments, weight_slice, bias_slice);
                let parts: Vec<Vec<Sums>> = grad_x
                    .par_chunks_mut(self.band())
                    .zip(x.par_chunks(self.band()).zip(grad.par_chunks(self.band())))
                    .map(|(dz, (x, grad))| arch.dispatch(BeforeSilu { op: self, x, grad, lines: &lines, dz }))
                    .collect();
                let mut sums = vec![[[0.0; LANES]; 2]; self.channels];
                for part in &parts {
                    for (sum, part) in sums.iter_mut().zip(part) {
                        for i in 0..LANES {
                            sum[0][i] += part[0][i];
                            sum[1][i] += part[1][i];
                        }
                    }
                }
                let rest = rest(self, moments, weight_slice, &sums);
                grad_x.par_chunks_mut(self.band()).zip(x.par_chunks(self.band())).for_each(|(dz, x)| {
                    arch.dispatch(Backward { op: self, x, lines: &lines, rest: &rest, dz });
                });
                of_parameters(self, moments, &sums)
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

/// Pixels of a block that a task works on.
const BAND: usize = 64;

/// Pixels that are worked on together, few enough to stay in the first cache.
const PIXELS: usize = 8;

/// A group's mean over some numbers, for each image, and the sum of the squares about it.
#[derive(Debug, Clone, Copy)]
struct Spread {
    count: f32,
    mean: Lanes,
    squares: Lanes,
}

impl Spread {
    const NONE: Self = Self { count: 0.0, mean: [0.0; LANES], squares: [0.0; LANES] };

    /// Adds other numbers' (Chan, Golub & LeVeque 1979).
    #[inline(always)]
    fn add(&mut self, other: &Self) {
        let (before, new) = (self.count, other.count);
        let (part, of_pair) = (new / (before + new), before * new / (before + new));
        for i in 0..LANES {
            let apart = other.mean[i] - self.mean[i];
            self.mean[i] += apart * part;
            self.squares[i] += other.squares[i] + apart * apart * of_pair;
        }
        self.count = before + new;
    }
}

/// The spread of each group over some pixels, a few at a time.
struct Spreads<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
}

impl WithSimd for Spreads<'_> {
    type Output = Vec<Spread>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Spread> {
        let Self { op, x } = self;
        let mut spreads = vec![Spread::NONE; op.groups()];
        for pixels in x.chunks(PIXELS * op.channels * LANES) {
            let count = (pixels.len() / (op.channels * LANES) * op.per_group) as f32;
            for (g, spread) in spreads.iter_mut().enumerate() {
                let group = || {
                    let pixels = pixels.chunks_exact(op.channels * LANES);
                    pixels.flat_map(move |pixel| group_of(op, pixel, g))
                };
                let mut sum = [0.0; LANES];
                for x in group() {
                    for i in 0..LANES {
                        sum[i] += x[i];
                    }
                }
                let mut mean = [0.0; LANES];
                for i in 0..LANES {
                    mean[i] = sum[i] / count;
                }
                let mut squares = [0.0; LANES];
                for x in group() {
                    for i in 0..LANES {
                        squares[i] += (x[i] - mean[i]) * (x[i] - mean[i]);
                    }
                }
                spread.add(&Spread { count, mean, squares });
            }
        }
        spreads
    }
}

/// The numbers of group `g` in a pixel.
#[inline(always)]
fn group_of<'a>(op: &GroupNorm, pixel: &'a [f32], g: usize) -> &'a [Lanes] {
    let size = op.per_group * LANES;
    pixel[g * size..(g + 1) * size].as_chunks::<LANES>().0
}

/// The moments of each group, of the spreads of all parts of a block.
fn joined(parts: Vec<Vec<Spread>>, eps: f32) -> Vec<Moments> {
    let whole = parts.into_iter().reduce(|mut all, part| {
        all.iter_mut().zip(&part).for_each(|(all, part)| all.add(part));
        all
    });
    let moments = |Spread { count, mean, squares }: Spread| Moments {
        mean,
        scale: squares.map(|squares| 1.0 / (squares / count + eps).sqrt()),
    };
    whole.unwrap_or_default().into_iter().map(moments).collect()
}

/// A channel's slope and offset: normalised, scaled and shifted, x is a·x + b; and the mean of its group.
#[derive(Debug, Clone, Copy)]
struct Line {
    a: Lanes,
    b: Lanes,
    mean: Lanes,
}

fn lines(op: &GroupNorm, moments: &[Moments], weight: &[f32], bias: &[f32]) -> Vec<Line> {
    let line = |c: usize| {
        let Moments { mean, scale } = moments[c / op.per_group];
        let a = scale.map(|scale| weight[c] * scale);
        Line { a, b: std::array::from_fn(|i| bias[c] - mean[i] * a[i]), mean }
    };
    (0..op.channels).map(line).collect()
}

/// Some pixels forward.
struct Forward<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
    lines: &'a [Line],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, x, lines, out } = self;
        let lines = &lines[..op.channels];
        for (x, out) in x.chunks_exact(op.channels * LANES).zip(out.chunks_exact_mut(op.channels * LANES)) {
            let (x, out) = (
                &x.as_chunks::<LANES>().0[..op.channels],
                &mut out.as_chunks_mut::<LANES>().0[..op.channels],
            );
            for c in 0..op.channels {
                let (x, Line { a, b, .. }) = (x[c], lines[c]);
                let mut y = [0.0; LANES];
                for i in 0..LANES {
                    let z = x[i].mul_add(a[i], b[i]);
                    y[i] = if op.silu { z * sigmoid(z) } else { z };
                }
                out[c] = y;
            }
        }
    }
}

/// Of a channel: Σ dz and Σ dz·(x − mean), dz the gradient before SiLU.
type Sums = [Lanes; 2];

/// The gradient before SiLU, of some pixels, and its sums.
struct BeforeSilu<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
    grad: &'a [f32],
    lines: &'a [Line],
    dz: &'a mut [f32],
}

impl WithSimd for BeforeSilu<'_> {
    type Output = Vec<Sums>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Sums> {
        let Self { op, x, grad, lines, dz } = self;
        let (mut all, lines) = (vec![[[0.0; LANES]; 2]; op.channels], &lines[..op.channels]);
        let sums = &mut all[..op.channels];
        let pixel = op.channels * LANES;
        for ((x, grad), dz) in
            x.chunks_exact(pixel).zip(grad.chunks_exact(pixel)).zip(dz.chunks_exact_mut(pixel))
        {
            let (x, grad) =
                (&x.as_chunks::<LANES>().0[..op.channels], &grad.as_chunks::<LANES>().0[..op.channels]);
            let dz = &mut dz.as_chunks_mut::<LANES>().0[..op.channels];
            for c in 0..op.channels {
                // Copies, so that the compiler sees that none of them changes with another.
                let (x, grad, Line { a, b, mean }, [mut sum, mut sum_x]) = (x[c], grad[c], lines[c], sums[c]);
                let mut of_z = grad;
                if op.silu {
                    for i in 0..LANES {
                        let z = x[i].mul_add(a[i], b[i]);
                        let s = sigmoid(z);
                        of_z[i] = grad[i] * s * z.mul_add(1.0 - s, 1.0);
                    }
                }
                for i in 0..LANES {
                    sum[i] += of_z[i];
                    sum_x[i] = of_z[i].mul_add(x[i] - mean[i], sum_x[i]);
                }
                dz[c] = of_z;
                sums[c] = [sum, sum_x];
            }
        }
        all
    }
}

/// Of each channel, slope and offset: the gradient of x is dz·a + x·slope + offset. With x̂ the normalised values and g =
/// weight·dz it is (g − mean(g) − x̂·mean(g·x̂)) / std, means over the group.
fn rest(op: &GroupNorm, moments: &[Moments], weight: &[f32], sums: &[Sums]) -> Vec<(Lanes, Lanes)> {
    let mut rest = vec![];
    let count = (op.per_group * op.pixels) as f32;
    for (g, Moments { mean, scale }) in moments.iter().enumerate() {
        let (mut sum_g, mut sum_gx) = ([0.0; LANES], [0.0; LANES]);
        for c in g * op.per_group..(g + 1) * op.per_group {
            for i in 0..LANES {
                sum_g[i] += weight[c] * sums[c][0][i];
                sum_gx[i] += weight[c] * sums[c][1][i];
            }
        }
        let (mut slope, mut offset) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            slope[i] = -scale[i] * scale[i] * scale[i] * sum_gx[i] / count;
            offset[i] = -scale[i] * sum_g[i] / count - slope[i] * mean[i];
        }
        rest.extend(std::iter::repeat_n((slope, offset), op.per_group));
    }
    rest
}

/// From the gradient before SiLU of some pixels to that of x.
struct Backward<'a> {
    op: &'a GroupNorm,
    x: &'a [f32],
    lines: &'a [Line],
    rest: &'a [(Lanes, Lanes)],
    dz: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, x, lines, rest, dz } = self;
        let (lines, rest) = (&lines[..op.channels], &rest[..op.channels]);
        for (x, dz) in x.chunks_exact(op.channels * LANES).zip(dz.chunks_exact_mut(op.channels * LANES)) {
            let (x, dz) =
                (&x.as_chunks::<LANES>().0[..op.channels], &mut dz.as_chunks_mut::<LANES>().0[..op.channels]);
            for c in 0..op.channels {
                let (x, of_z, a, (slope, offset)) = (x[c], dz[c], lines[c].a, rest[c]);
                dz[c] = std::array::from_fn(|i| of_z[i].mul_add(a[i], x[i].mul_add(slope[i], offset[i])));
            }
        }
    }
}

/// The gradients of each channel's weight and bias, over the images of a block.
fn of_parameters(op: &GroupNorm, moments: &[Moments], sums: &[Sums]) -> Vec<[f32; 2]> {
    let of_channel = |(c, [sum, sum_x]): (usize, &Sums)| {
        let scale = &moments[c / op.per_group].scale;
        [across(std::array::from_fn(|i| sum_x[i] * scale[i])), across(*sum)]
    };
    sums.iter().enumerate().map(of_channel).collect()
}
