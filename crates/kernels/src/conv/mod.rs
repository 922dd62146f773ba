//! Convolution on the CPU, with its gradients.

mod geometry;
mod product;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use geometry::Geometry;
use product::{Correlation, Panels, Product, Tile};
use pulp::Arch;
use rayon::prelude::*;
use std::cell::RefCell;

/// Convolution of `x` (n, in, h, w) with `weight` (out, in, k, k), zero-padded by `padding` on each side: (n, out, h',
/// w') with h' = ⌊(h + 2·padding − k)/stride⌋ + 1; `bias` (out) is added.
///
/// On the CPU in f32 it is ours; on other devices, in other types and where [`crate::force_candle_ops`] says so it is
/// candle's own. Both have gradients for all three. Sums do not depend on the number of threads.
///
/// # Errors
/// When the shapes do not fit together.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let ours = crate::ours(x) && weight.dtype() == DType::F32;
    let (x_dims, weight_dims) = (x.dims4()?, weight.dims4()?);
    if x_dims.1 != weight_dims.1 {
        bail!("a convolution over {} channels is given {}", weight_dims.1, x_dims.1);
    }
    match Geometry::new(x_dims.into(), weight_dims.into(), stride, padding) {
        Some(geometry) if ours => {
            let no_bias = Tensor::zeros(weight_dims.0, DType::F32, x.device());
            let bias = bias.cloned().map_or(no_bias, Ok)?.contiguous()?;
            x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, Convolution(geometry))
        }
        _ => {
            let y = x.conv2d(weight, padding, stride, 1, 1)?;
            match bias {
                Some(b) => y.broadcast_add(&b.reshape((1, (), 1, 1))?),
                None => Ok(y),
            }
        }
    }
}

struct Convolution(Geometry);

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
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
        let weight = crate::slice(weight, weight_layout)?;
        let bias = crate::slice(bias, bias_layout)?;
        let g = &self.0;
        let shape = Shape::from((g.images, g.out_channels, g.out_height, g.out_width));
        Ok((CpuStorage::F32(forward(g, x, weight, bias)), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = &self.0;
        let grad = grad.contiguous()?;
        let (x_values, weight_values) = (crate::values(x)?, crate::values(weight)?);
        let grad_values = crate::values(&grad)?;
        let grad_x = x.track_op().then(|| input_gradient(g, grad_values.get(), weight_values.get()));
        let (grad_weight, grad_bias) = weight_gradient(g, x_values.get(), grad_values.get());
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((
            grad_x.map(|values| tensor(values, x)).transpose()?,
            Some(tensor(grad_weight, weight)?),
            Some(tensor(grad_bias, bias)?),
        ))
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends `sizes` numbers of this thread's buffer, all zero, in as many parts.
fn with_scratch<const N: usize, R>(sizes: [usize; N], work: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        let size = sizes.iter().sum();
        if buffer.len() < size {
            buffer.resize(size, 0.0);
        }
        let mut rest = &mut buffer[..size];
        rest.fill(0.0);
        work(sizes.map(|size| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(size);
            rest = tail;
            part
        }))
    })
}

fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let (in_size, out_size) = g.image_sizes();
    let arch = Arch::new();
    let tile = Tile::new(arch);
    let depth = g.in_channels * g.taps();
    let panels = Panels::pack(tile, g.out_channels, depth, |o, k| weight[o * depth + k]);
    let offsets = input_offsets(g);
    let len = g.plane().next_multiple_of(tile.width);
    let planes_size = g.in_channels * g.phases() * g.plane() + g.max_shift() + tile.width;
    let mut out = vec![0.0; g.images * out_size];
    out.par_chunks_mut(g.group * out_size).zip(x.par_chunks(g.group * in_size)).for_each(|(out, x)| {
        with_scratch([planes_size, tile.max_rows() * len], |[planes, rows]| {
            g.pack_input(x, planes);
            for panel in panels.iter() {
                let channels = panel.first..panel.first + panel.rows;
                for (row, o) in rows.chunks_exact_mut(len).zip(channels.clone()) {
                    row.fill(bias[o]);
                }
                arch.dispatch(Product { panel, offsets: &offsets, planes, out: rows, len });
                for (row, o) in rows.chunks_exact(len).zip(channels) {
                    g.unpack_output(row, o, out);
                }
            }
        });
    });
    out
}

/// Where each (channel, tap) of the input's planes begins, as seen from an output pixel.
fn input_offsets(g: &Geometry) -> Vec<usize> {
    (0..g.in_channels * g.taps())
        .map(|k| {
            let (c, tap) = (k / g.taps(), k % g.taps());
            (c * g.phases() + g.phase(tap)) * g.plane() + g.shift(tap)
        })
        .collect()
}

/// The gradient of the input: for each phase, the product of the transposed weight with the output's gradient, read
/// backwards from the shift of each tap. It is the adjoint of the forward pass in the same layout.
fn input_gradient(g: &Geometry, grad: &[f32], weight: &[f32]) -> Vec<f32> {
    let (in_size, out_size) = g.image_sizes();
    let arch = Arch::new();
    let tile = Tile::new(arch);
    let len = g.plane().next_multiple_of(tile.width);
    let taps = |phase| (0..g.taps()).filter(move |&tap| g.phase(tap) == phase).collect::<Vec<_>>();
    // With a stride over the kernel's size some phases have no taps: their gradient stays zero.
    let phases: Vec<(usize, Panels, Vec<usize>)> = (0..g.phases())
        .map(|phase| (phase, taps(phase)))
        .filter(|(_, taps)| !taps.is_empty())
        .map(|(phase, taps)| {
            let depth = g.out_channels * taps.len();
            let panels = Panels::pack(tile, g.in_channels, depth, |c, k| {
                weight[((k / taps.len()) * g.in_channels + c) * g.taps() + taps[k % taps.len()]]
            });
            let offset =
                |k: usize| (k / taps.len()) * g.plane() + g.max_shift() - g.shift(taps[k % taps.len()]);
            (phase, panels, (0..depth).map(offset).collect())
        })
        .collect();
    let planes_size = g.out_channels * g.plane() + g.max_shift() + tile.width;
    let mut out = vec![0.0; g.images * in_size];
    out.par_chunks_mut(g.group * in_size).zip(grad.par_chunks(g.group * out_size)).for_each(|(out, grad)| {
        with_scratch([planes_size, tile.max_rows() * len], |[planes, rows]| {
            g.pack_output(grad, &mut planes[g.max_shift()..]);
            for (phase, panels, offsets) in &phases {
                for panel in panels.iter() {
                    rows.fill(0.0);
                    arch.dispatch(Product { panel, offsets, planes, out: rows, len });
                    let channels = panel.first..panel.first + panel.rows;
                    for (row, c) in rows.chunks_exact(len).zip(channels) {
                        g.unpack_input(row, c, *phase, out);
                    }
                }
            }
        });
    });
    out
}

/// Into how many parts the sum over images is split: fixed, so that the sum's order does not depend on the threads.
const PARTS: usize = 8;

/// The gradients of weight and bias.
fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (in_size, out_size) = g.image_sizes();
    let arch = Arch::new();
    let tile = Tile::new(arch);
    let offsets = input_offsets(g);
    let weights = g.out_channels * offsets.len();
    let x_size = g.in_channels * g.phases() * g.plane() + g.max_shift() + tile.width;
    let y_size = g.out_channels * g.plane();
    let part = g.images.div_ceil(g.group).div_ceil(PARTS) * g.group;
    let parts: Vec<Vec<f32>> = grad
        .par_chunks(part * out_size)
        .zip(x.par_chunks(part * in_size))
        .map(|(grad, x)| {
            let mut sums = vec![0.0; weights + g.out_channels];
            let (weight, bias) = sums.split_at_mut(weights);
            for (grad, x) in grad.chunks(g.group * out_size).zip(x.chunks(g.group * in_size)) {
                with_scratch([x_size, y_size], |[x_planes, y_planes]| {
                    g.pack_input(x, x_planes);
                    g.pack_output(grad, y_planes);
                    for (sum, plane) in bias.iter_mut().zip(y_planes.chunks_exact(g.plane())) {
                        *sum += crate::sum::sum(plane, plane, |value, _| value);
                    }
                    arch.dispatch(Correlation {
                        y: y_planes,
                        plane: g.plane(),
                        x: x_planes,
                        offsets: &offsets,
                        out: weight,
                    });
                });
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0; weights + g.out_channels];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    let bias = sums.split_off(weights);
    (sums, bias)
}
