//! Convolution, norms with activations, and attention as candle custom ops with gradients, on the CPU; candle's own ops
//! on every other device. All of them work on [`FeatureMaps`], which says how the numbers lie.

// Loops over lanes and tiles index several arrays alike.
#![allow(clippy::needless_range_loop)]

mod attention;
mod batch_norm;
mod conv;
mod exp;
mod group_norm;
mod leaky_relu;
mod maps;
mod pool;
mod process;
mod scratch;

pub use attention::attention;
pub use batch_norm::{BatchNormed, batch_norm};
pub use conv::{Shift, conv2d, upsample_conv2d};
pub use group_norm::group_norm;
pub use leaky_relu::leaky_relu;
pub use maps::FeatureMaps;
pub use pool::halve;
pub use process::{Vectors, limit_vectors, set_up};

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

static CANDLE_OPS: AtomicBool = AtomicBool::new(false);

/// Forces candle's own ops on the CPU too, for the whole process: to compare, or to find out whose fault something is.
pub fn force_candle_ops(force: bool) {
    CANDLE_OPS.store(force, Ordering::Relaxed);
}

/// Whether [`force_candle_ops`] is on.
pub fn candle_ops_forced() -> bool {
    CANDLE_OPS.load(Ordering::Relaxed)
}

/// Whether our kernels serve this tensor.
fn ours(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !candle_ops_forced()
}

/// The numbers of a contiguous f32 storage.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values: &[f32] = storage.as_slice()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&values[from..to]),
        None => bail!("a kernel needs contiguous tensors"),
    }
}

/// The numbers of a contiguous f32 tensor on the CPU, for the backward passes; `G` is candle's lock on its storage.
struct Values<'a, G> {
    storage: G,
    layout: &'a Layout,
}

/// Locks the numbers of a contiguous f32 tensor on the CPU.
fn values(tensor: &Tensor) -> Result<Values<'_, impl Deref<Target = Storage>>> {
    let (storage, layout) = tensor.storage_and_layout();
    let values = Values { storage, layout };
    values.slice()?;
    Ok(values)
}

impl<G: Deref<Target = Storage>> Values<'_, G> {
    fn slice(&self) -> Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => slice(storage, self.layout),
            _ => bail!("a kernel of the CPU is given a tensor of another device"),
        }
    }

    fn get(&self) -> &[f32] {
        self.slice().expect("checked when it was locked")
    }
}
