//! Attention.

use crate::conv::{vectors, vectors_mut};
use crate::exp::exp;
use crate::maps::{FeatureMaps, LANES, Lanes};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Self-attention over the pixels of `qkv` (n, 3·heads·d, h, w), whose channels are the queries of all heads, then their
/// keys, then their values: softmax(q·kᵀ·scale)·v of each head, (n, heads·d, h, w). Vaswani 2017, eq. 1.
///
/// Interleaved maps are ours, which keeps the scores of few queries at a time and computes them again for the gradient
/// (Dao 2022); others are made of candle's own ops. Both have gradients. Sums do not depend on the number of threads.
///
/// # Errors
/// When the channels are no multiple of 3·`heads`.
pub fn attention(qkv: &FeatureMaps, heads: usize, scale: f64) -> Result<FeatureMaps> {
    let (n, channels, height, width) = qkv.dims();
    if heads == 0 || channels % (3 * heads) != 0 {
        bail!("attention with {heads} heads over {channels} channels of queries, keys and values");
    }
    let d = channels / (3 * heads);
    let pixels = height * width;
    if qkv.is_interleaved() {
        let op = Attention { heads, width: d, pixels, scale: scale as f32, moments: OnceLock::new() };
        return Ok(qkv.with_values(qkv.values.contiguous()?.apply_op1(op)?));
    }
    let part = |i: usize| -> Result<Tensor> {
        let part = qkv.values.narrow(1, i * heads * d, heads * d)?;
        part.reshape((n * heads, d, pixels))?.transpose(1, 2)?.contiguous()
    };
    let scores = (part(0)? * scale)?.matmul(&part(1)?.t()?.contiguous()?)?;
    let y = candle_nn::ops::softmax(&scores, 2)?.matmul(&part(2)?)?;
    Ok(qkv.with_values(y.transpose(1, 2)?.contiguous()?.reshape((n, heads * d, height, width))?))
}

#[derive(Debug)]
struct Attention {
    heads: usize,
    width: usize,
    pixels: usize,
    scale: f32,
    /// Those of the forward pass, for each block, head and query.
    moments: OnceLock<Vec<Moments>>,
}

/// A query's largest score and one over the sum of its weights, for each image.
#[derive(Debug, Clone, Copy)]
struct Moments {
    largest: Lanes,
    inverse: Lanes,
}

impl Attention {
    /// Channels of the result.
    fn channels(&self) -> usize {
        self.heads * self.width
    }

    /// Numbers in a block of images of the result; of queries, keys and values three times as many.
    fn block(&self) -> usize {
        self.pixels * self.channels() * LANES
    }

    /// Where the queries (0), keys (1) or values (2) of a head's pixel begin, counted in lanes.
    #[inline(always)]
    fn at(&self, part: usize, head: usize, pixel: usize) -> usize {
        (3 * pixel + part) * self.channels() + head * self.width
    }

    /// Where a head's pixel begins in the result.
    #[inline(always)]
    fn out_at(&self, head: usize, pixel: usize) -> usize {
        pixel * self.channels() + head * self.width
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = crate::slice(x, layout)?;
        let (blocks, height, width, ..) = layout.shape().dims5()?;
        let mut out = vec![0.0; x.len() / 3];
        let arch = Arch::new();
        let moments: Vec<Vec<Moments>> = out
            .par_chunks_mut(self.block())
            .zip(x.par_chunks(3 * self.block()))
            .map(|(out, x)| arch.dispatch(Forward { op: self, x, out }))
            .collect();
        self.moments.get_or_init(|| moments.concat());
        Ok((CpuStorage::F32(out), Shape::from((blocks, height, width, self.channels(), LANES))))
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(moments) = self.moments.get() else { bail!("attention's gradient before its result") };
        let grad = grad.contiguous()?;
        let (x_values, res_values, grad_values) =
            (crate::values(x)?, crate::values(res)?, crate::values(&grad)?);
        let mut grad_x = vec![0.0; x.elem_count()];
        let arch = Arch::new();
        grad_x
            .par_chunks_mut(3 * self.block())
            .zip(x_values.get().par_chunks(3 * self.block()))
            .zip(res_values.get().par_chunks(self.block()).zip(grad_values.get().par_chunks(self.block())))
            .zip(moments.par_chunks(self.heads * self.pixels))
            .for_each(|(((grad_x, x), (res, grad)), moments)| {
                arch.dispatch(Backward { op: self, x, res, grad, moments, grad_x });
            });
        Tensor::from_vec(grad_x, x.shape(), x.device()).map(Some)
    }
}

/// Queries worked on together; where fewer are left the last one stands in for those that are missing.
const QUERIES: usize = 4;

/// Keys whose scores are kept at a time: those of all queries fit into the first cache.
const KEYS: usize = 64;

/// Scores of [`QUERIES`] queries, each for [`KEYS`] keys.
type Scores = [[Lanes; KEYS]; QUERIES];

/// One block forward.
struct Forward<'a> {
    op: &'a Attention,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = Vec<Moments>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Moments> {
        match S::F32_LANES {
            16 => self.run::<S, 1, 4>(simd),
            8 => self.run::<S, 2, 2>(simd),
            4 => self.run::<S, 4, 4>(simd),
            _ => self.run::<S, LANES, 1>(simd),
        }
    }
}

impl Forward<'_> {
    /// `N` keys, or numbers of the values, at a time.
    #[inline(always)]
    fn run<S: Simd, const V: usize, const N: usize>(self, simd: S) -> Vec<Moments> {
        let Self { op, x, out } = self;
        let mut moments = Vec::with_capacity(op.heads * op.pixels);
        let mut scores: Box<Scores> = Box::new([[[0.0; LANES]; KEYS]; QUERIES]);
        let mut sums = vec![[[0.0; LANES]; QUERIES]; op.width.next_multiple_of(N)];
        for head in 0..op.heads {
            for first in (0..op.pixels).step_by(QUERIES) {
                let mut largest = [[f32::NEG_INFINITY; LANES]; QUERIES];
                let mut total = [[0.0; LANES]; QUERIES];
                sums.fill([[0.0; LANES]; QUERIES]);
                for key in (0..op.pixels).step_by(KEYS) {
                    let count = KEYS.min(op.pixels - key);
                    for j in (0..count).step_by(N) {
                        let products = dots::<S, V, N>(simd, op, x, (x, 0, 1), head, first, key + j);
                        for q in 0..QUERIES {
                            for n in 0..N {
                                scores[q][j + n] = products[q][n];
                            }
                        }
                    }
                    for q in 0..QUERIES {
                        let shrunk =
                            softmax(&mut scores[q][..count], op.scale, &mut largest[q], &mut total[q]);
                        for sums in &mut sums {
                            for i in 0..LANES {
                                sums[q][i] *= shrunk[i];
                            }
                        }
                    }
                    for d in (0..op.width).step_by(N) {
                        weigh::<S, V, N>(simd, op, x, &scores, head, (key, count), d, &mut sums[d..d + N]);
                    }
                }
                for q in 0..QUERIES.min(op.pixels - first) {
                    let mut inverse = [0.0; LANES];
                    for i in 0..LANES {
                        inverse[i] = 1.0 / total[q][i];
                    }
                    let out = &mut out.as_chunks_mut::<LANES>().0[op.out_at(head, first + q)..][..op.width];
                    for (out, sums) in out.iter_mut().zip(&sums) {
                        for i in 0..LANES {
                            out[i] = sums[q][i] * inverse[i];
                        }
                    }
                    moments.push(Moments { largest: largest[q], inverse });
                }
            }
        }
        moments
    }
}

/// Scores become weights e^(score·scale − largest); returns what earlier weights have to be multiplied by.
#[inline(always)]
fn softmax(scores: &mut [Lanes], scale: f32, largest: &mut Lanes, total: &mut Lanes) -> Lanes {
    let mut top = *largest;
    for s in &mut *scores {
        for i in 0..LANES {
            s[i] *= scale;
            top[i] = if s[i] > top[i] { s[i] } else { top[i] };
        }
    }
    let mut shrunk = [0.0; LANES];
    let mut sum = [0.0; LANES];
    for i in 0..LANES {
        shrunk[i] = exp(largest[i] - top[i]);
        sum[i] = total[i] * shrunk[i];
    }
    for s in scores {
        for i in 0..LANES {
            let weight = exp(s[i] - top[i]);
            s[i] = weight;
            sum[i] += weight;
        }
    }
    (*largest, *total) = (top, sum);
    shrunk
}

/// Products of [`QUERIES`] rows of `left` and `N` of `right`: of queries (part 0) and keys (1), or of the result's
/// gradient and values (2).
#[inline(always)]
fn dots<S: Simd, const V: usize, const N: usize>(
    simd: S,
    op: &Attention,
    left: &[f32],
    (right, left_part, right_part): (&[f32], usize, usize),
    head: usize,
    query: usize,
    key: usize,
) -> [[Lanes; N]; QUERIES] {
    let (left, right) = (vectors::<S, V>(left), vectors::<S, V>(right));
    let mut out = [[[0.0; LANES]; N]; QUERIES];
    let mut a: [&[[S::f32s; V]]; QUERIES] = [&[]; QUERIES];
    let mut b: [&[[S::f32s; V]]; N] = [&[]; N];
    for q in 0..QUERIES {
        let pixel = (query + q).min(op.pixels - 1);
        let at = if left_part == 0 { op.at(0, head, pixel) } else { op.out_at(head, pixel) };
        a[q] = &left[at..][..op.width];
    }
    for n in 0..N {
        b[n] = &right[op.at(right_part, head, (key + n).min(op.pixels - 1))..][..op.width];
    }
    for v in 0..V {
        let mut sums = [[simd.splat_f32s(0.0); N]; QUERIES];
        for d in 0..op.width {
            for q in 0..QUERIES {
                for n in 0..N {
                    sums[q][n] = simd.mul_add_f32s(a[q][d][v], b[n][d][v], sums[q][n]);
                }
            }
        }
        for q in 0..QUERIES {
            for n in 0..N {
                vectors_mut::<S, V>(&mut out[q][n])[0][v] = sums[q][n];
            }
        }
    }
    out
}

/// Adds weights times values to `sums`: numbers `d` to `d + N` of the values of `count` keys.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn weigh<S: Simd, const V: usize, const N: usize>(
    simd: S,
    op: &Attention,
    x: &[f32],
    weights: &Scores,
    head: usize,
    (key, count): (usize, usize),
    d: usize,
    sums: &mut [[Lanes; QUERIES]],
) {
    let x = vectors::<S, V>(x);
    for v in 0..V {
        let mut local = [[simd.splat_f32s(0.0); N]; QUERIES];
        for j in 0..count {
            let values = &x[op.at(2, head, key + j)..][..op.width];
            for q in 0..QUERIES {
                let weight = vectors::<S, V>(&weights[q][j])[0][v];
                for n in 0..N {
                    local[q][n] =
                        simd.mul_add_f32s(weight, values[(d + n).min(op.width - 1)][v], local[q][n]);
                }
            }
        }
        for q in 0..QUERIES {
            for n in 0..N {
                let sum = &mut vectors_mut::<S, V>(&mut sums[n][q])[0][v];
                *sum = simd.add_f32s(*sum, local[q][n]);
            }
        }
    }
}

/// One block backward.
struct Backward<'a> {
    op: &'a Attention,
    x: &'a [f32],
    res: &'a [f32],
    grad: &'a [f32],
    moments: &'a [Moments],
    grad_x: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 1, 4>(simd),
            8 => self.run::<S, 2, 2>(simd),
            4 => self.run::<S, 4, 4>(simd),
            _ => self.run::<S, LANES, 1>(simd),
        }
    }
}

impl Backward<'_> {
    /// With p a query's weights and dp = grad·vᵀ: the gradient of its scores is ds = p·(dp − Σ p·dp), where Σ p·dp is
    /// grad·result; that of v is pᵀ·grad, of q ds·k·scale and of k dsᵀ·q·scale.
    #[inline(always)]
    fn run<S: Simd, const V: usize, const N: usize>(self, simd: S) {
        let Self { op, x, res, grad, moments, grad_x } = self;
        let (res_lanes, grad_lanes) = (res.as_chunks::<LANES>().0, grad.as_chunks::<LANES>().0);
        for head in 0..op.heads {
            for query in (0..op.pixels).step_by(QUERIES) {
                let mut mean = [[0.0; LANES]; QUERIES];
                for (q, mean) in mean.iter_mut().enumerate().take(op.pixels - query) {
                    let at = op.out_at(head, query + q);
                    for (res, grad) in res_lanes[at..at + op.width].iter().zip(&grad_lanes[at..]) {
                        for i in 0..LANES {
                            mean[i] += res[i] * grad[i];
                        }
                    }
                }
                for key in (0..op.pixels).step_by(N) {
                    let mut weights = dots::<S, V, N>(simd, op, x, (x, 0, 1), head, query, key);
                    let mut grads = dots::<S, V, N>(simd, op, grad, (x, 1, 2), head, query, key);
                    for q in 0..QUERIES {
                        let moments = &moments[head * op.pixels + (query + q).min(op.pixels - 1)];
                        for n in 0..N {
                            let real = query + q < op.pixels && key + n < op.pixels;
                            let (weight, grad) = (&mut weights[q][n], &mut grads[q][n]);
                            for i in 0..LANES {
                                let p = exp(weight[i] * op.scale - moments.largest[i]) * moments.inverse[i];
                                weight[i] = if real { p } else { 0.0 };
                                grad[i] = weight[i] * (grad[i] - mean[q][i]) * op.scale;
                            }
                        }
                    }
                    spread::<S, V, N>(simd, op, (x, grad), (&weights, &grads), head, query, key, grad_x);
                }
            }
        }
    }
}

/// Adds to the gradients of queries, keys and values what a tile of weights and of scores' gradients gives.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn spread<S: Simd, const V: usize, const N: usize>(
    simd: S,
    op: &Attention,
    (x, grad): (&[f32], &[f32]),
    (weights, grads): (&[[Lanes; N]; QUERIES], &[[Lanes; N]; QUERIES]),
    head: usize,
    query: usize,
    key: usize,
    grad_x: &mut [f32],
) {
    let (x, grad, grad_x) = (vectors::<S, V>(x), vectors::<S, V>(grad), vectors_mut::<S, V>(grad_x));
    let pixel = |first: usize, i: usize| (first + i).min(op.pixels - 1);
    for v in 0..V {
        let mut p = [[simd.splat_f32s(0.0); N]; QUERIES];
        for q in 0..QUERIES {
            for n in 0..N {
                p[q][n] = vectors::<S, V>(&weights[q][n])[0][v];
            }
        }
        for d in 0..op.width {
            for n in 0..N {
                let to = &mut grad_x[op.at(2, head, pixel(key, n)) + d][v];
                let mut sum = *to;
                for q in 0..QUERIES {
                    sum = simd.mul_add_f32s(p[q][n], grad[op.out_at(head, pixel(query, q)) + d][v], sum);
                }
                *to = sum;
            }
        }
        let mut ds = [[simd.splat_f32s(0.0); N]; QUERIES];
        for q in 0..QUERIES {
            for n in 0..N {
                ds[q][n] = vectors::<S, V>(&grads[q][n])[0][v];
            }
        }
        for d in 0..op.width {
            for n in 0..N {
                let to = &mut grad_x[op.at(1, head, pixel(key, n)) + d][v];
                let mut sum = *to;
                for q in 0..QUERIES {
                    sum = simd.mul_add_f32s(ds[q][n], x[op.at(0, head, pixel(query, q)) + d][v], sum);
                }
                *to = sum;
            }
            for q in 0..QUERIES {
                let to = &mut grad_x[op.at(0, head, pixel(query, q)) + d][v];
                let mut sum = *to;
                for n in 0..N {
                    sum = simd.mul_add_f32s(ds[q][n], x[op.at(1, head, pixel(key, n)) + d][v], sum);
                }
                *to = sum;
            }
        }
    }
}
