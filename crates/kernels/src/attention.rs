//! Attention.

use crate::conv::{vectors, vectors_mut};
use crate::exp::exp2;
use crate::maps::{FeatureMaps, LANES, Lanes, pieces};
use crate::scratch::unwritten;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::f32::consts::{LN_2, LOG2_E};
use std::sync::OnceLock;
use tracing::trace_span;

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

/// A query's largest score, which is in powers of two, and one over the sum of its weights, for each image.
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

    /// Numbers of one pixel of a head, filled up to whole tiles.
    fn padded_width(&self) -> usize {
        self.width.next_multiple_of(TILE)
    }

    /// Pixels, filled up to whole blocks.
    fn padded_pixels(&self) -> usize {
        self.pixels.next_multiple_of(QUERIES)
    }

    /// Copies one head out of maps that hold `parts` times the result's channels, so that what a product reads lies
    /// together: (pixels, numbers), both padded with zeros. `part` is 0 for queries, 1 for keys, 2 for values.
    fn pack(&self, maps: &[f32], (part, parts): (usize, usize), head: usize, to: &mut [Lanes]) {
        let maps = maps.as_chunks::<LANES>().0.chunks_exact(parts * self.channels());
        for (from, to) in maps.zip(to.chunks_exact_mut(self.padded_width())) {
            to[..self.width]
                .copy_from_slice(&from[part * self.channels() + head * self.width..][..self.width]);
        }
    }

    /// The queries of a head, such that their products with the keys are the exponents of two that softmax takes.
    fn pack_queries(&self, maps: &[f32], head: usize, to: &mut [Lanes]) {
        self.pack(maps, (0, 3), head, to);
        let factor = self.scale * LOG2_E;
        to.as_flattened_mut().iter_mut().for_each(|q| *q *= factor);
    }

    /// The way back, to a head's numbers of each pixel.
    fn unpack(&self, from: &[Lanes], to: &mut [&mut [f32]]) {
        for (from, to) in from.chunks_exact(self.padded_width()).zip(to) {
            to.as_chunks_mut::<LANES>().0.copy_from_slice(&from[..self.width]);
        }
    }

    /// Room for one part of a head.
    fn scratch(&self) -> Vec<Lanes> {
        vec![[0.0; LANES]; self.padded_pixels() * self.padded_width()]
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timed = trace_span!("attention").entered();
        let x = crate::slice(x, layout)?;
        let (blocks, height, width, ..) = layout.shape().dims5()?;
        let mut out = unwritten(x.len() / 3);
        let arch = crate::process::arch();
        let moments: Vec<Vec<Moments>> = out
            .par_chunks_mut(self.block())
            .zip(x.par_chunks(3 * self.block()))
            .map(|(out, x)| {
                let heads = pieces(out, self.channels() * LANES, self.width * LANES);
                let moments: Vec<Vec<Moments>> = heads
                    .into_par_iter()
                    .enumerate()
                    .map(|(head, out)| arch.dispatch(Forward { op: self, x, head, out }))
                    .collect();
                moments.concat()
            })
            .collect();
        self.moments.get_or_init(|| moments.concat());
        Ok((CpuStorage::F32(out), Shape::from((blocks, height, width, self.channels(), LANES))))
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _timed = trace_span!("attention, gradient").entered();
        let Some(moments) = self.moments.get() else { bail!("attention's gradient before its result") };
        let grad = grad.contiguous()?;
        let (x_values, res_values, grad_values) =
            (crate::values(x)?, crate::values(res)?, crate::values(&grad)?);
        let mut grad_x = unwritten(x.elem_count());
        let arch = crate::process::arch();
        grad_x
            .par_chunks_mut(3 * self.block())
            .zip(x_values.get().par_chunks(3 * self.block()))
            .zip(res_values.get().par_chunks(self.block()).zip(grad_values.get().par_chunks(self.block())))
            .zip(moments.par_chunks(self.heads * self.pixels))
            .for_each(|(((grad_x, x), (res, grad)), moments)| {
                let mut q = pieces(grad_x, 3 * self.channels() * LANES, self.width * LANES);
                let mut k = q.split_off(self.heads);
                let v = k.split_off(self.heads);
                (q, k, v).into_par_iter().zip(moments.par_chunks(self.pixels)).enumerate().for_each(
                    |(head, (grad_qkv, moments))| {
                        arch.dispatch(Backward { op: self, x, res, grad, head, moments, grad_qkv });
                    },
                );
            });
        Tensor::from_vec(grad_x, x.shape(), x.device()).map(Some)
    }
}

/// Rows, and at most columns, of the results that a product holds in registers: matrices are padded to multiples of it.
const TILE: usize = 4;

/// Queries worked on together.
const QUERIES: usize = 8;

/// Keys whose scores are kept at a time, forward and backward: scores and what they are multiplied by stay in the first
/// cache.
const KEYS: usize = 32;
const KEYS_BACKWARD: usize = 8;

/// A matrix for each of the sixteen images: entry (i, j) is the lanes at i·`row` + j·`column`.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    lanes: &'a [Lanes],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    fn new(lanes: &'a [Lanes], row: usize) -> Self {
        Self { lanes, row, column: 1 }
    }

    fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// Adds the product of `a` (m, depth) and `b` (depth, n) to `c` (m, n), whose rows are `row` apart; m and n are multiples
/// of [`TILE`], and `N`, the columns held in registers, divides it.
#[inline(always)]
fn product<S: Simd, const V: usize, const N: usize>(
    simd: S,
    (m, n, depth): (usize, usize, usize),
    a: Matrix,
    b: Matrix,
    c: &mut [Lanes],
    row: usize,
) {
    let (left, right) = (vectors::<S, V>(a.lanes.as_flattened()), vectors::<S, V>(b.lanes.as_flattened()));
    let c = vectors_mut::<S, V>(c.as_flattened_mut());
    for i in (0..m).step_by(TILE) {
        for j in (0..n).step_by(N) {
            for v in 0..V {
                let mut sums = [[simd.splat_f32s(0.0); N]; TILE];
                for r in 0..TILE {
                    for q in 0..N {
                        sums[r][q] = c[(i + r) * row + j + q][v];
                    }
                }
                for l in 0..depth {
                    let mut of_b = [simd.splat_f32s(0.0); N];
                    for q in 0..N {
                        of_b[q] = right[l * b.row + (j + q) * b.column][v];
                    }
                    for r in 0..TILE {
                        let of_a = left[(i + r) * a.row + l * a.column][v];
                        for q in 0..N {
                            sums[r][q] = simd.mul_add_f32s(of_a, of_b[q], sums[r][q]);
                        }
                    }
                }
                for r in 0..TILE {
                    for q in 0..N {
                        c[(i + r) * row + j + q][v] = sums[r][q];
                    }
                }
            }
        }
    }
}

/// A head's numbers of each pixel, to be written.
type OfHead<'a> = Vec<&'a mut [f32]>;

/// One head of a block forward.
struct Forward<'a, 'b> {
    op: &'a Attention,
    x: &'a [f32],
    head: usize,
    out: OfHead<'b>,
}

impl WithSimd for Forward<'_, '_> {
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

impl Forward<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const N: usize>(self, simd: S) -> Vec<Moments> {
        let Self { op, x, head, mut out } = self;
        let width = op.padded_width();
        let (mut q, mut k, mut v, mut y) = (op.scratch(), op.scratch(), op.scratch(), op.scratch());
        let mut scores = vec![[0.0; LANES]; QUERIES * KEYS];
        let mut moments = Vec::with_capacity(op.pixels);
        op.pack_queries(x, head, &mut q);
        op.pack(x, (1, 3), head, &mut k);
        op.pack(x, (2, 3), head, &mut v);
        for first in (0..op.pixels).step_by(QUERIES) {
            let q = Matrix::new(&q[first * width..], width);
            let y = &mut y[first * width..][..QUERIES * width];
            let mut largest = [[f32::NEG_INFINITY; LANES]; QUERIES];
            let mut total = [[0.0; LANES]; QUERIES];
            for key in (0..op.pixels).step_by(KEYS) {
                let count = KEYS.min(op.pixels - key);
                let k = Matrix::new(&k[key * width..], width);
                let v = Matrix::new(&v[key * width..], width);
                let size = (QUERIES, count.next_multiple_of(TILE), width);
                scores.fill([0.0; LANES]);
                product::<S, V, N>(simd, size, q, k.transposed(), &mut scores, KEYS);
                for r in 0..QUERIES {
                    let scores = &mut scores[r * KEYS..][..count];
                    let shrunk = softmax(scores, &mut largest[r], &mut total[r]);
                    multiply::<S, V>(simd, &mut y[r * width..(r + 1) * width], &shrunk);
                }
                let scores = Matrix::new(&scores, KEYS);
                product::<S, V, N>(simd, (QUERIES, width, count), scores, v, y, width);
            }
            for r in 0..QUERIES {
                let mut inverse = [0.0; LANES];
                for i in 0..LANES {
                    inverse[i] = 1.0 / total[r][i];
                }
                multiply::<S, V>(simd, &mut y[r * width..(r + 1) * width], &inverse);
                if first + r < op.pixels {
                    moments.push(Moments { largest: largest[r], inverse });
                }
            }
        }
        op.unpack(&y, &mut out);
        moments
    }
}

/// Multiplies every entry by `factor`.
#[inline(always)]
fn multiply<S: Simd, const V: usize>(simd: S, entries: &mut [Lanes], factor: &Lanes) {
    let factor = vectors::<S, V>(factor)[0];
    for entry in vectors_mut::<S, V>(entries.as_flattened_mut()) {
        for v in 0..V {
            entry[v] = simd.mul_f32s(entry[v], factor[v]);
        }
    }
}

/// Scores become weights 2^(score − largest); returns what earlier weights have to be multiplied by.
#[inline(always)]
fn softmax(scores: &mut [Lanes], largest: &mut Lanes, total: &mut Lanes) -> Lanes {
    let mut top = *largest;
    for s in &*scores {
        for i in 0..LANES {
            top[i] = if s[i] > top[i] { s[i] } else { top[i] };
        }
    }
    let mut shrunk = [0.0; LANES];
    let mut sum = [0.0; LANES];
    for i in 0..LANES {
        shrunk[i] = exp2(largest[i] - top[i]);
        sum[i] = total[i] * shrunk[i];
    }
    for s in scores {
        for i in 0..LANES {
            let weight = exp2(s[i] - top[i]);
            s[i] = weight;
            sum[i] += weight;
        }
    }
    (*largest, *total) = (top, sum);
    shrunk
}

/// One head of a block backward.
struct Backward<'a, 'b> {
    op: &'a Attention,
    x: &'a [f32],
    res: &'a [f32],
    grad: &'a [f32],
    head: usize,
    moments: &'a [Moments],
    /// The gradients of its queries, keys and values.
    grad_qkv: (OfHead<'b>, OfHead<'b>, OfHead<'b>),
}

impl WithSimd for Backward<'_, '_> {
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

impl Backward<'_, '_> {
    /// With p a query's weights and dp = grad·vᵀ: the gradient of its scores is ds = p·(dp − Σ p·dp), where Σ p·dp is
    /// grad·result; that of v is pᵀ·grad, of q ds·k·scale and of k dsᵀ·q·scale.
    #[inline(always)]
    fn run<S: Simd, const V: usize, const N: usize>(self, simd: S) {
        let Self { op, x, res, grad, head, moments, grad_qkv } = self;
        let width = op.padded_width();
        let (mut q, mut k, mut v) = (op.scratch(), op.scratch(), op.scratch());
        let (mut g, mut y) = (op.scratch(), op.scratch());
        let (mut grad_q, mut grad_k, mut grad_v) = (op.scratch(), op.scratch(), op.scratch());
        let mut weights = vec![[0.0; LANES]; QUERIES * KEYS_BACKWARD];
        let mut grads = weights.clone();
        op.pack_queries(x, head, &mut q);
        op.pack(x, (1, 3), head, &mut k);
        op.pack(x, (2, 3), head, &mut v);
        op.pack(grad, (0, 1), head, &mut g);
        op.pack(res, (0, 1), head, &mut y);
        for query in (0..op.pixels).step_by(QUERIES) {
            let rows = query * width..(query + QUERIES) * width;
            let mean = products(&y[rows.clone()], &g[rows.clone()], width);
            let (q, g) = (Matrix::new(&q[rows.clone()], width), Matrix::new(&g[rows.clone()], width));
            for key in (0..op.pixels).step_by(KEYS_BACKWARD) {
                let columns = key * width..(key + KEYS_BACKWARD) * width;
                let (k, v) =
                    (Matrix::new(&k[columns.clone()], width), Matrix::new(&v[columns.clone()], width));
                weights.fill([0.0; LANES]);
                grads.fill([0.0; LANES]);
                let size = (QUERIES, KEYS_BACKWARD, width);
                product::<S, V, N>(simd, size, q, k.transposed(), &mut weights, KEYS_BACKWARD);
                product::<S, V, N>(simd, size, g, v.transposed(), &mut grads, KEYS_BACKWARD);
                for r in 0..QUERIES {
                    // The gradient of a query that does not exist is zero, whatever its weights.
                    let Moments { largest, inverse } = moments[(query + r).min(op.pixels - 1)];
                    for c in 0..KEYS_BACKWARD {
                        let weight = &mut weights[r * KEYS_BACKWARD + c];
                        let grad = &mut grads[r * KEYS_BACKWARD + c];
                        for i in 0..LANES {
                            let p = exp2(weight[i] - largest[i]) * inverse[i];
                            weight[i] = p;
                            grad[i] = p * (grad[i] - mean[r][i]);
                        }
                    }
                }
                let weights = Matrix::new(&weights, KEYS_BACKWARD).transposed();
                let grads = Matrix::new(&grads, KEYS_BACKWARD);
                let size = (KEYS_BACKWARD, width, QUERIES);
                product::<S, V, N>(simd, size, weights, g, &mut grad_v[columns.clone()], width);
                product::<S, V, N>(simd, size, grads.transposed(), q, &mut grad_k[columns.clone()], width);
                // Keys that do not exist have weights: they are left out here, and their gradients nobody reads.
                let size = (QUERIES, width, KEYS_BACKWARD.min(op.pixels - key));
                product::<S, V, N>(simd, size, grads, k, &mut grad_q[rows.clone()], width);
            }
        }
        let (mut of_q, mut of_k, mut of_v) = grad_qkv;
        // What the queries were multiplied by is in the keys' gradients already.
        grad_q.as_flattened_mut().iter_mut().for_each(|g| *g *= op.scale);
        grad_k.as_flattened_mut().iter_mut().for_each(|g| *g *= LN_2);
        op.unpack(&grad_q, &mut of_q);
        op.unpack(&grad_k, &mut of_k);
        op.unpack(&grad_v, &mut of_v);
    }
}

/// The scalar product of each row of `a` with the same row of `b`.
#[inline(always)]
fn products(a: &[Lanes], b: &[Lanes], width: usize) -> [Lanes; QUERIES] {
    let mut out = [[0.0; LANES]; QUERIES];
    for (out, (a, b)) in out.iter_mut().zip(a.chunks_exact(width).zip(b.chunks_exact(width))) {
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                out[i] += a[i] * b[i];
            }
        }
    }
    out
}
