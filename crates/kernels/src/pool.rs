//! Average pooling.

use crate::maps::{FeatureMaps, LANES};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Average pooling by 2 of `x` (n, c, h, w), rounding up: (n, c, ⌈h/2⌉, ⌈w/2⌉). At an odd edge the average is over the
/// pixels that exist.
///
/// Interleaved maps are ours, others are made of candle's own ops. Both have a gradient.
///
/// # Errors
/// Those of the device.
pub fn halve(x: &FeatureMaps) -> Result<FeatureMaps> {
    let (_, _, height, width) = x.dims();
    if x.is_interleaved() {
        return Ok(x.with_values(x.values.contiguous()?.apply_op1(Halve)?));
    }
    let x_values = &x.values;
    let (bottom, right) = (height % 2, width % 2);
    if (bottom, right) == (0, 0) {
        return Ok(x.with_values(x_values.avg_pool2d(2)?));
    }
    let pool = |x: &Tensor| x.pad_with_zeros(2, 0, bottom)?.pad_with_zeros(3, 0, right)?.avg_pool2d(2);
    let ones = x_values.narrow(0, 0, 1)?.narrow(1, 0, 1)?.ones_like()?;
    Ok(x.with_values(pool(x_values)?.broadcast_div(&pool(&ones)?)?))
}

struct Halve;

impl Halve {
    /// Calls `join`(output pixel, input pixel, weight) for each pair.
    fn pairs(height: usize, width: usize, mut join: impl FnMut(usize, usize, f32)) {
        for y in 0..height.div_ceil(2) {
            for x in 0..width.div_ceil(2) {
                let (rows, columns) = (2 * y..height.min(2 * y + 2), 2 * x..width.min(2 * x + 2));
                let weight = 1.0 / (rows.len() * columns.len()) as f32;
                for row in rows {
                    for column in columns.clone() {
                        join(y * width.div_ceil(2) + x, row * width + column, weight);
                    }
                }
            }
        }
    }
}

impl CustomOp1 for Halve {
    fn name(&self) -> &'static str {
        "halve"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (blocks, h, w, c, _) = layout.shape().dims5()?;
        let (half_h, half_w, pixel) = (h.div_ceil(2), w.div_ceil(2), c * LANES);
        let x = crate::slice(x, layout)?;
        let mut out = vec![0.0; blocks * half_h * half_w * pixel];
        out.par_chunks_mut(half_h * half_w * pixel).zip(x.par_chunks(h * w * pixel)).for_each(|(out, x)| {
            Self::pairs(h, w, |to, from, weight| {
                let (to, from) = (&mut out[to * pixel..][..pixel], &x[from * pixel..][..pixel]);
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
            });
        });
        Ok((CpuStorage::F32(out), Shape::from((blocks, half_h, half_w, c, LANES))))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, h, w, c, _) = x.dims5()?;
        let (out_pixels, pixel) = (h.div_ceil(2) * w.div_ceil(2), c * LANES);
        let grad = grad.contiguous()?;
        let grad_values = crate::values(&grad)?;
        let mut grad_x = vec![0.0; x.elem_count()];
        let blocks =
            grad_x.par_chunks_mut(h * w * pixel).zip(grad_values.get().par_chunks(out_pixels * pixel));
        blocks.for_each(|(out, grad)| {
            Self::pairs(h, w, |from, to, weight| {
                let (to, from) = (&mut out[to * pixel..][..pixel], &grad[from * pixel..][..pixel]);
                to.iter_mut().zip(from).for_each(|(to, from)| *to = weight * from);
            });
        });
        Tensor::from_vec(grad_x, x.shape(), x.device()).map(Some)
    }
}
