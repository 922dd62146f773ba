//! Attention.

use candle_core::{Result, Tensor};

/// softmax(q·kᵀ·scale)·v for q (b, l, d), k (b, m, d), v (b, m, e), all contiguous: (b, l, e). Vaswani 2017, eq. 1.
///
/// # Errors
/// When the shapes do not fit together.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
    let scores = (q * scale)?.matmul(&k.t()?)?;
    candle_nn::ops::softmax(&scores, 2)?.matmul(v)
}
