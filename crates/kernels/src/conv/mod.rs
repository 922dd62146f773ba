//! Convolution on the CPU, with its gradients.

mod bands;
mod gradient;
mod outer;
mod plan;
mod product;
mod winograd;

use crate::maps::{FeatureMaps, LANES, across};
use crate::scratch::unwritten;
use bands::{bands, split};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use plan::{Plan, Size};
use product::{Panels, Product};
pub(crate) use product::{vectors, vectors_mut};
use rayon::prelude::*;
use tracing::trace_span;
use winograd::{Kernels, Winograd};

/// Pixels of a band of a convolution by its definition: as many as its tiles take at a time.
const PIXELS: usize = 4;

/// What a convolution adds to its sums.
#[derive(Debug, Clone, Copy)]
pub enum Shift<'a> {
    /// Nothing.
    None,
    /// One number for each channel, (out).
    Channels(&'a Tensor),
    /// One number for each channel of each image: maps of one pixel.
    Images(&'a FeatureMaps),
}

/// Convolution of `x` (n, in, h, w) with `weight` (out, in, k, k), zero-padded by `padding` on each side: (n, out, h',
/// w') with h' = ⌊(h + 2·padding − k)/stride⌋ + 1; `shift` is added.
///
/// Interleaved maps are ours, others candle's own op. Both have gradients for all three. Sums do not depend on the
/// number of threads.
///
/// # Errors
/// When the shapes do not fit together.
pub fn conv2d(
    x: &FeatureMaps,
    weight: &Tensor,
    shift: Shift,
    stride: usize,
    padding: usize,
) -> Result<FeatureMaps> {
    let (_, channels, height, width) = x.dims();
    let (out_channels, in_channels, kernel, kernel_width) = weight.dims4()?;
    if in_channels != channels || kernel != kernel_width {
        bail!("a convolution of weight {:?} is given {channels} channels", weight.dims());
    }
    let size = Size { height, width, channels };
    let Some(plan) = Plan::convolution(size, out_channels, kernel, stride, padding) else {
        bail!("a kernel of {kernel} with padding {padding} and stride {stride} on maps {height} by {width}");
    };
    if x.is_interleaved() {
        let form = match (kernel, stride) {
            (3, 1) if Winograd::pays(&plan, padding) => {
                Form::Winograd(Winograd { input: plan.input, output: plan.output, padding })
            }
            _ => Form::Definition(plan),
        };
        return apply(form, x, weight, shift);
    }
    shifted(x.with_values(x.values.conv2d(weight, padding, stride, 1, 1)?), shift)
}

/// Upsampling of `x` (n, in, h, w) by two, each pixel becoming four, then convolution with `weight` (out, in, 3, 3) that
/// keeps the size: (n, out, 2h, 2w).
///
/// Interleaved maps are ours, which never writes the upsampled maps; others are candle's own ops. Both have gradients
/// for all three. Sums do not depend on the number of threads.
///
/// # Errors
/// When the shapes do not fit together.
pub fn upsample_conv2d(x: &FeatureMaps, weight: &Tensor, shift: Shift) -> Result<FeatureMaps> {
    let (_, channels, height, width) = x.dims();
    if weight.dims()[1..] != [channels, 3, 3] {
        bail!("a convolution of weight {:?} is given {channels} channels", weight.dims());
    }
    if x.is_interleaved() {
        let plan = Plan::upsampling(Size { height, width, channels }, weight.dim(0)?);
        return apply(Form::Definition(plan), x, weight, shift);
    }
    let up = x.values.upsample_nearest2d(2 * height, 2 * width)?;
    shifted(x.with_values(up.conv2d(weight, 1, 1, 1, 1)?), shift)
}

fn shifted(y: FeatureMaps, shift: Shift) -> Result<FeatureMaps> {
    match shift {
        Shift::None => Ok(y),
        Shift::Channels(b) => Ok(y.with_values(y.values.broadcast_add(&b.reshape((1, (), 1, 1))?)?)),
        Shift::Images(b) => Ok(y.with_values(y.values.broadcast_add(&b.values)?)),
    }
}

/// How a convolution is computed.
#[derive(Debug)]
enum Form {
    /// As a sum over taps.
    Definition(Plan),
    Winograd(Winograd),
}

fn apply(form: Form, x: &FeatureMaps, weight: &Tensor, shift: Shift) -> Result<FeatureMaps> {
    let out = form.output().channels;
    let (n, ..) = x.dims();
    let shift = match shift {
        Shift::None => Tensor::zeros(out, DType::F32, weight.device())?,
        Shift::Channels(b) if b.dims() == [out] => b.contiguous()?,
        Shift::Images(b) if b.is_interleaved() && b.dims() == (n, out, 1, 1) => b.values.contiguous()?,
        _ => bail!("a convolution to {out} channels is given a shift of another shape: {shift:?}"),
    };
    Ok(x.with_values(x.values.contiguous()?.apply_op3(&weight.contiguous()?, &shift, Convolution(form))?))
}

impl Form {
    fn output(&self) -> Size {
        match self {
            Self::Definition(plan) => plan.output,
            Self::Winograd(winograd) => winograd.output,
        }
    }

    /// `weight` (out, in, places) applied to all blocks of `x`; `shift` is (channels) or (blocks, channels, 16).
    fn multiply(&self, weight: &[f32], shift: &[f32], x: &[f32]) -> Vec<f32> {
        let of_channels: Vec<f32>;
        let shift = match shift.len() == self.output().channels {
            true => {
                of_channels = shift.iter().flat_map(|&s| [s; LANES]).collect();
                &of_channels
            }
            false => shift,
        };
        match self {
            Self::Definition(plan) => {
                let (depth, places) = (plan.input.channels, plan.places(weight.len()));
                multiply(plan, |o, d| &weight[(o * depth + d) * places..][..places], shift, x)
            }
            Self::Winograd(winograd) => {
                let (rows, depths) = (winograd.output.channels, winograd.input.channels);
                let kernels =
                    Kernels { values: weight, rows, row: 9 * depths, depths, depth: 9, flipped: false };
                winograd.multiply(kernels, shift, x)
            }
        }
    }

    /// The gradient of the input, from that of the output.
    fn input_gradient(&self, weight: &[f32], grad: &[f32]) -> Vec<f32> {
        match self {
            Self::Definition(plan) => {
                let (depth, places) = (plan.input.channels, plan.places(weight.len()));
                let zeros = vec![0.0; depth * LANES];
                multiply(&plan.adjoint(), |d, o| &weight[(o * depth + d) * places..][..places], &zeros, grad)
            }
            Self::Winograd(winograd) => {
                let (rows, depths) = (winograd.input.channels, winograd.output.channels);
                let kernels =
                    Kernels { values: weight, rows, row: 9, depths, depth: 9 * rows, flipped: true };
                winograd.adjoint().multiply(kernels, &vec![0.0; rows * LANES], grad)
            }
        }
    }

    /// Σ grad·x over images and pixels, for each of `count` weights.
    fn weight_gradient(&self, x: &[f32], grad: &[f32], count: usize) -> Vec<f32> {
        match self {
            Self::Definition(plan) => gradient::weight_gradient(plan, x, grad, plan.places(count)),
            Self::Winograd(winograd) => winograd.weight_gradient(x, grad),
        }
    }
}

/// Does `work` on one of rayon's threads: from outside, each of its parts would wait for them by itself.
fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::join(work, || ()).0
}

struct Convolution(Form);

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
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _timed = trace_span!("convolution").entered();
        let (x, weight) = (crate::slice(x, x_layout)?, crate::slice(weight, weight_layout)?);
        let shift = crate::slice(shift, shift_layout)?;
        let out = in_pool(|| self.0.multiply(weight, shift, x));
        let Size { height, width, channels } = self.0.output();
        Ok((CpuStorage::F32(out), Shape::from((x_layout.dims()[0], height, width, channels, LANES))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        shift: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Self(form) = self;
        let grad = grad.contiguous()?;
        let (x_values, grad_values, weight_values) =
            (crate::values(x)?, crate::values(&grad)?, crate::values(weight)?);
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        let grad_x = match x.track_op() {
            true => {
                let _timed = trace_span!("convolution, gradient of the input").entered();
                let (weight, grad) = (weight_values.get(), grad_values.get());
                Some(tensor(in_pool(|| form.input_gradient(weight, grad)), x)?)
            }
            false => None,
        };
        let timed = trace_span!("convolution, gradient of the weights").entered();
        let count = weight.elem_count();
        let grad_weight = match weight.track_op() {
            true => {
                let (x, grad) = (x_values.get(), grad_values.get());
                Some(tensor(in_pool(|| form.weight_gradient(x, grad, count)), weight)?)
            }
            false => None,
        };
        drop(timed);
        let _timed = trace_span!("convolution, gradient of the bias").entered();
        let grad_shift = tensor(shift_gradient(form.output(), grad_values.get(), shift.rank() == 1), shift)?;
        Ok((grad_x, grad_weight, Some(grad_shift)))
    }
}

/// What is added in a block: of `shift` (blocks or 1, channels, 16).
fn shift_of_block(shift: &[f32], channels: usize, block: usize) -> &[f32] {
    let size = channels * LANES;
    if shift.len() == size { shift } else { &shift[block * size..][..size] }
}

/// Applies a plan to all blocks of `x`. `shift` is (blocks or 1, channels, 16).
fn multiply<'a>(
    plan: &Plan,
    kernel: impl Fn(usize, usize) -> &'a [f32],
    shift: &[f32],
    x: &[f32],
) -> Vec<f32> {
    let Plan { input, output, phases, .. } = plan;
    let panels: Vec<Panels> =
        phases.iter().map(|phase| Panels::pack(phase, output.channels, input.channels, &kernel)).collect();
    let in_size = input.pixels() * input.channels * LANES;
    let blocks = x.len() / in_size;
    let mut out = unwritten(blocks * output.pixels() * output.channels * LANES);
    let bands = bands(*output, blocks, plan.out_step, PIXELS);
    let arch = crate::process::arch();
    split(bands, *output, &mut out).into_par_iter().for_each(|(band, out)| {
        let block_size = band.rows.len() * output.width * output.channels * LANES;
        for (block, out) in band.blocks.zip(out.chunks_exact_mut(block_size)) {
            let shift = shift_of_block(shift, output.channels, block);
            let input = &x[block * in_size..][..in_size];
            for (phase, panels) in phases.iter().zip(&panels) {
                arch.dispatch(Product { plan, phase, panels, shift, rows: band.rows.clone(), input, out });
            }
        }
    });
    out
}

/// Σ grad over pixels, (blocks, channels, 16), and where the shift is the same for all images over these too, (channels).
fn shift_gradient(output: Size, grad: &[f32], of_channels: bool) -> Vec<f32> {
    let channels = output.channels * LANES;
    let mut sums = vec![];
    for block in grad.chunks_exact(output.pixels() * channels) {
        let mut sum = vec![0.0; channels];
        for pixel in block.chunks_exact(channels) {
            sum.iter_mut().zip(pixel).for_each(|(sum, grad)| *sum += grad);
        }
        sums.extend(sum);
    }
    if !of_channels {
        return sums;
    }
    let mut total = vec![0.0; output.channels];
    for block in sums.chunks_exact(channels) {
        for (total, lanes) in total.iter_mut().zip(block.as_chunks::<LANES>().0) {
            *total += across(*lanes);
        }
    }
    total
}
