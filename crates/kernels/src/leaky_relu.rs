//! Leaky ReLU, shifted.

use crate::maps::FeatureMaps;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Leaky ReLU (Maas 2013) with this `slope` below zero, from 0 to 1, minus `shift`: x's shape.
///
/// Interleaved maps are ours, others are made of candle's own ops. Both have a gradient.
///
/// # Errors
/// Those of the device.
pub fn leaky_relu(x: &FeatureMaps, slope: f64, shift: f64) -> Result<FeatureMaps> {
    let values = &x.values;
    Ok(x.with_values(match x.is_interleaved() {
        true => values.contiguous()?.apply_op1(LeakyRelu { slope: slope as f32, shift: shift as f32 })?,
        false => ((values.relu()? * (1.0 - slope))? + values.affine(slope, -shift)?)?,
    }))
}

struct LeakyRelu {
    slope: f32,
    shift: f32,
}

/// The smallest piece of work for a thread.
const MIN_LEN: usize = 1 << 14;

impl CustomOp1 for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky-relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Self { slope, shift } = *self;
        let x = crate::slice(x, layout)?;
        let y = x.par_iter().with_min_len(MIN_LEN).map(|&x| x.max(slope * x) - shift).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_values, grad_values) = (crate::values(x)?, crate::values(&grad)?);
        let slope = |x: f32| if x >= 0.0 { 1.0 } else { self.slope };
        let pairs = x_values.get().par_iter().zip(grad_values.get()).with_min_len(MIN_LEN);
        let grad_x: Vec<f32> = pairs.map(|(&x, grad)| slope(x) * grad).collect();
        Ok(Some(Tensor::from_vec(grad_x, x.shape(), x.device())?))
    }
}
