//! Attention.

use crate::exp::exp;
use crate::sum::sum;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// The widest head that is ours: beyond it a matrix product gains more than the scores' stay in the cache.
const MAX_WIDTH: usize = 32;

/// softmax(q·kᵀ·scale)·v for q (b, l, d), k (b, m, d), v (b, m, e): (b, l, e). Vaswani 2017, eq. 1.
///
/// On the CPU in f32 with narrow heads it is ours, which keeps one row of scores at a time and computes it again for the
/// gradients; elsewhere it is made of candle's own ops. Both have gradients for all three. Sums do not depend on the
/// number of threads.
///
/// # Errors
/// When the shapes do not fit together.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
    let ((b, l, d), (_, m, e)) = (q.dims3()?, v.dims3()?);
    if k.dims() != [b, m, d] || v.dim(0)? != b {
        bail!("attention of queries {:?} over keys {:?} and values {:?}", q.dims(), k.dims(), v.dims());
    }
    let ours = [q, k, v].into_iter().all(|t| crate::ours(t) && t.dtype() == DType::F32);
    if ours && d.max(e) <= MAX_WIDTH && l * m * d * e > 0 {
        let op = Attention { queries: l, keys: m, width: d, value_width: e, scale: scale as f32 };
        return q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op);
    }
    let scores = (q * scale)?.contiguous()?.matmul(&k.t()?.contiguous()?)?;
    candle_nn::ops::softmax(&scores, 2)?.matmul(&v.contiguous()?)
}

#[derive(Debug, Clone, Copy)]
struct Attention {
    queries: usize,
    keys: usize,
    width: usize,
    value_width: usize,
    scale: f32,
}

impl Attention {
    /// Numbers in the queries, keys and values of one head, and in its result.
    fn sizes(&self) -> [usize; 4] {
        let Self { queries, keys, width, value_width, .. } = *self;
        [queries * width, keys * width, keys * value_width, queries * value_width]
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (crate::slice(q, q_layout)?, crate::slice(k, k_layout)?, crate::slice(v, v_layout)?);
        let [q_size, k_size, v_size, out_size] = self.sizes();
        let heads = q.len() / q_size;
        let mut out = vec![0.0; heads * out_size];
        let arch = Arch::new();
        out.par_chunks_mut(out_size)
            .zip(q.par_chunks(q_size))
            .zip(k.par_chunks(k_size).zip(v.par_chunks(v_size)))
            .for_each(|((out, q), (k, v))| arch.dispatch(Forward { op: self, q, k, v, out }));
        Ok((CpuStorage::F32(out), Shape::from((heads, self.queries, self.value_width))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (q_values, k_values) = (crate::values(q)?, crate::values(k)?);
        let (v_values, grad_values) = (crate::values(v)?, crate::values(&grad)?);
        let [q_size, k_size, v_size, out_size] = self.sizes();
        let zeros = |like: &Tensor| vec![0.0; like.elem_count()];
        let (mut grad_q, mut grad_k, mut grad_v) = (zeros(q), zeros(k), zeros(v));
        let arch = Arch::new();
        let inputs = q_values
            .get()
            .par_chunks(q_size)
            .zip(k_values.get().par_chunks(k_size))
            .zip(v_values.get().par_chunks(v_size).zip(grad_values.get().par_chunks(out_size)));
        grad_q
            .par_chunks_mut(q_size)
            .zip(grad_k.par_chunks_mut(k_size))
            .zip(grad_v.par_chunks_mut(v_size))
            .zip(inputs)
            .for_each(|(((grad_q, grad_k), grad_v), ((q, k), (v, grad)))| {
                arch.dispatch(Backward { op: self, q, k, v, grad, grad_q, grad_k, grad_v });
            });
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device()).map(Some);
        Ok((tensor(grad_q, q)?, tensor(grad_k, k)?, tensor(grad_v, v)?))
    }
}

/// (rows, columns) to (columns, rows).
#[inline(always)]
fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len() / columns;
    let mut out = vec![0.0; x.len()];
    for (r, row) in x.chunks_exact(columns).enumerate() {
        for (c, &value) in row.iter().enumerate() {
            out[c * rows + r] = value;
        }
    }
    out
}

/// Σ over c of factors\[c\]·columns\[c\], where `columns` holds as many columns of out's length: four at a time, since
/// each pass over `out` costs as much as its products.
#[inline(always)]
fn combine(factors: &[f32], columns: &[f32], out: &mut [f32]) {
    let len = out.len();
    out.fill(0.0);
    let fours = factors.chunks_exact(4).zip(columns.chunks_exact(4 * len));
    let done = factors.len() / 4 * 4;
    for (f, columns) in fours {
        let (a, rest) = columns.split_at(len);
        let (b, rest) = rest.split_at(len);
        let (c, d) = rest.split_at(len);
        for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *out += f[0] * a + f[1] * b + (f[2] * c + f[3] * d);
        }
    }
    for (f, column) in factors[done..].iter().zip(columns[done * len..].chunks_exact(len)) {
        out.iter_mut().zip(column).for_each(|(out, x)| *out += f * x);
    }
}

/// out\[c\] += factors\[c\]·x for each column of `out`.
#[inline(always)]
fn spread(factors: &[f32], x: &[f32], out: &mut [f32]) {
    for (f, column) in factors.iter().zip(out.chunks_exact_mut(x.len())) {
        column.iter_mut().zip(x).for_each(|(out, x)| *out += f * x);
    }
}

/// Turns scores into weights: their exponentials over the sum of those.
#[inline(always)]
fn softmax(scores: &mut [f32]) {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = scores.chunks_exact(LANES);
    let tail = chunks.remainder().iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    let largest = lanes.iter().fold(tail, |a, &b| a.max(b));
    scores.iter_mut().for_each(|s| *s = exp(*s - largest));
    let scale = 1.0 / sum(scores, scores, |a, _| a);
    scores.iter_mut().for_each(|s| *s *= scale);
}

/// One head forward.
struct Forward<'a> {
    op: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, q, k, v, out } = self;
        let (keys, values) = (transposed(k, op.width), transposed(v, op.value_width));
        let mut weights = vec![0.0; op.keys];
        let mut query = vec![0.0; op.width];
        for (q, out) in q.chunks_exact(op.width).zip(out.chunks_exact_mut(op.value_width)) {
            query.iter_mut().zip(q).for_each(|(scaled, q)| *scaled = q * op.scale);
            combine(&query, &keys, &mut weights);
            softmax(&mut weights);
            for (out, column) in out.iter_mut().zip(values.chunks_exact(op.keys)) {
                *out = sum(&weights, column, |w, v| w * v);
            }
        }
    }
}

/// One head backward.
struct Backward<'a> {
    op: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    grad: &'a [f32],
    grad_q: &'a mut [f32],
    grad_k: &'a mut [f32],
    grad_v: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    /// With p a query's weights and dp = grad·vᵀ: the gradient of its scores is ds = p·(dp − Σ p·dp), that of v is pᵀ·grad,
    /// of q ds·k·scale and of k dsᵀ·q·scale.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, q, k, v, grad, grad_q, grad_k, grad_v } = self;
        let (keys, values) = (transposed(k, op.width), transposed(v, op.value_width));
        let (mut grad_keys, mut grad_values) = (vec![0.0; k.len()], vec![0.0; v.len()]);
        let (mut weights, mut grad_scores) = (vec![0.0; op.keys], vec![0.0; op.keys]);
        let mut query = vec![0.0; op.width];
        let rows = q.chunks_exact(op.width).zip(grad.chunks_exact(op.value_width));
        for ((q, grad), grad_q) in rows.zip(grad_q.chunks_exact_mut(op.width)) {
            query.iter_mut().zip(q).for_each(|(scaled, q)| *scaled = q * op.scale);
            combine(&query, &keys, &mut weights);
            softmax(&mut weights);
            spread(grad, &weights, &mut grad_values);
            combine(grad, &values, &mut grad_scores);
            let mean = sum(&weights, &grad_scores, |w, g| w * g);
            grad_scores.iter_mut().zip(&weights).for_each(|(g, w)| *g = w * (*g - mean));
            for (grad_q, column) in grad_q.iter_mut().zip(keys.chunks_exact(op.keys)) {
                *grad_q = op.scale * sum(&grad_scores, column, |g, k| g * k);
            }
            // `query` is already scaled.
            spread(&query, &grad_scores, &mut grad_keys);
        }
        grad_k.copy_from_slice(&transposed(&grad_keys, op.keys));
        grad_v.copy_from_slice(&transposed(&grad_values, op.keys));
    }
}
