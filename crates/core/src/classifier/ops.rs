//! Batch normalisation by the batch's own statistics, and the activation, in few passes on the CPU; candle's own ops
//! elsewhere, in other types, and where [`elucidate_kernels::force_candle_ops`] says so.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// The activation's slope below zero.
pub(super) const LEAK: f64 = 0.1;

/// What the activation subtracts, so that its outputs are near zero on average.
const SHIFT: f64 = 0.4;

/// Leaky ReLU, shifted down: x's shape.
pub(super) fn activate(x: &Tensor) -> Result<Tensor> {
    if ours(x) {
        return x.contiguous()?.apply_op1(Activation);
    }
    (x.relu()? * (1.0 - LEAK))? + x.affine(LEAK, -SHIFT)?
}

/// What [`normalise`] gives.
pub(super) struct Normalised {
    /// (n, c, size)
    pub(super) y: Tensor,
    /// The batch's mean (c), without gradient.
    pub(super) mean: Tensor,
    /// The batch's variance (c), divided by n·size, without gradient.
    pub(super) var: Tensor,
}

/// Normalises each channel of `x` (n, c, size) by its own mean and variance, then scales and shifts it by `weight` and
/// `bias` (c) (Ioffe & Szegedy 2015, algorithm 1).
pub(super) fn normalise(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Normalised> {
    let c = x.dim(1)?;
    if !ours(x) {
        let mean = x.mean_keepdim((0, 2))?;
        let centred = x.broadcast_sub(&mean)?;
        let var = centred.sqr()?.mean_keepdim((0, 2))?;
        let scale = weight.reshape((1, c, 1))?.div(&(&var + eps)?.sqrt()?)?;
        let y = centred.broadcast_mul(&scale)?.broadcast_add(&bias.reshape((1, c, 1))?)?;
        return Ok(Normalised { y, mean: mean.detach().flatten_all()?, var: var.detach().flatten_all()? });
    }
    let x = x.contiguous()?;
    let (mean, var) = with_numbers(&x, |numbers| moments(numbers, Planes::of(x.shape())?))??;
    let inverse_std = var.iter().map(|var| 1.0 / (var + eps as f32).sqrt()).collect();
    let op = Normalise { mean: mean.clone(), inverse_std };
    Ok(Normalised {
        y: x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?,
        mean: Tensor::from_vec(mean, c, x.device())?,
        var: Tensor::from_vec(var, c, x.device())?,
    })
}

fn ours(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !elucidate_kernels::candle_ops_forced()
}

/// How the numbers of a contiguous (n, c, size) lie: plane p, of `size` numbers, belongs to channel p mod c.
#[derive(Clone, Copy)]
struct Planes {
    count: usize,
    channels: usize,
    size: usize,
}

impl Planes {
    fn of(shape: &Shape) -> Result<Self> {
        let (n, channels, size) = shape.dims3()?;
        if shape.elem_count() == 0 {
            bail!("batch norm of no numbers at all: {shape:?}");
        }
        Ok(Self { count: n * channels, channels, size })
    }

    /// Σ of `part`(channel, where the plane lies) over each channel's planes, in a fixed order.
    fn sum(self, part: impl Fn(usize, Range<usize>) -> f32 + Sync) -> Vec<f64> {
        let parts: Vec<f32> = (0..self.count)
            .into_par_iter()
            .map(|p| part(p % self.channels, p * self.size..(p + 1) * self.size))
            .collect();
        let of_channel = |c: usize| parts[c..].iter().step_by(self.channels);
        (0..self.channels).map(|c| of_channel(c).map(|&part| f64::from(part)).sum()).collect()
    }

    /// Numbers in a channel.
    fn per_channel(self) -> f64 {
        (self.count / self.channels * self.size) as f64
    }
}

/// Mean and variance of each channel.
fn moments(x: &[f32], planes: Planes) -> Result<(Vec<f32>, Vec<f32>)> {
    let mean_of = |sums: Vec<f64>| -> Vec<f32> {
        sums.into_iter().map(|sum| (sum / planes.per_channel()) as f32).collect()
    };
    let mean = mean_of(planes.sum(|_, at| sum(&x[at.clone()], &x[at], |x, _| x)));
    let var = mean_of(planes.sum(|c, at| sum(&x[at.clone()], &x[at], |x, _| (x - mean[c]) * (x - mean[c]))));
    Ok((mean, var))
}

struct Normalise {
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch-norm"
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
        let (x, planes) = (numbers(x, x_layout)?, Planes::of(x_layout.shape())?);
        let (weight, bias) = (numbers(weight, weight_layout)?, numbers(bias, bias_layout)?);
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(planes.size).zip(x.par_chunks(planes.size)).enumerate().for_each(|(p, (y, x))| {
            let c = p % planes.channels;
            let scale = weight[c] * self.inverse_std[c];
            let shift = bias[c] - scale * self.mean[c];
            y.iter_mut().zip(x).for_each(|(y, x)| *y = scale * x + shift);
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    /// With x̂ the normalised values and g the gradient of y: the gradient of weight is Σ g·x̂, of bias Σ g, and of x
    /// weight/std·(g − mean(g) − x̂·mean(g·x̂)), sums and means over the channel.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let planes = Planes::of(x.shape())?;
        let weights = weight.to_vec1::<f32>()?;
        let backward = |x: &[f32], grad: &[f32]| self.backward(planes, x, &weights, grad);
        let grad = grad.contiguous()?;
        let [grad_x, grad_weight, grad_bias] =
            with_numbers(x, |x| with_numbers(&grad, |grad| backward(x, grad)))??;
        Ok((
            Some(Tensor::from_vec(grad_x, x.shape(), x.device())?),
            Some(Tensor::from_vec(grad_weight, weight.shape(), x.device())?),
            Some(Tensor::from_vec(grad_bias, weight.shape(), x.device())?),
        ))
    }
}

impl Normalise {
    /// The gradients of x, weight and bias.
    fn backward(&self, planes: Planes, x: &[f32], weight: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
        let Self { mean, inverse_std } = self;
        let sum_g = planes.sum(|_, at| sum(&grad[at.clone()], &x[at], |g, _| g));
        let sum_gx =
            planes.sum(|c, at| sum(&grad[at.clone()], &x[at], |g, x| g * (x - mean[c])) * inverse_std[c]);
        let mut grad_x = vec![0.0; x.len()];
        grad_x.par_chunks_mut(planes.size).enumerate().for_each(|(p, out)| {
            let (c, from) = (p % planes.channels, p * planes.size);
            let of_g = weight[c] * inverse_std[c];
            let of_x = -of_g * inverse_std[c] * (sum_gx[c] / planes.per_channel()) as f32;
            let shift = -of_g * (sum_g[c] / planes.per_channel()) as f32 - of_x * mean[c];
            let plane = from..from + planes.size;
            for ((out, g), x) in out.iter_mut().zip(&grad[plane.clone()]).zip(&x[plane]) {
                *out = of_g * g + of_x * x + shift;
            }
        });
        let single = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
        [grad_x, single(sum_gx), single(sum_g)]
    }
}

struct Activation;

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "shifted-leaky-relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (leak, shift) = (LEAK as f32, SHIFT as f32);
        let y =
            numbers(x, layout)?.par_iter().with_min_len(MIN_LEN).map(|&x| x.max(leak * x) - shift).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let slope = |x: f32| if x >= 0.0 { 1.0 } else { LEAK as f32 };
        let backward = |x: &[f32], grad: &[f32]| -> Vec<f32> {
            x.par_iter().zip(grad).with_min_len(MIN_LEN).map(|(&x, g)| slope(x) * g).collect()
        };
        let grad_x = with_numbers(x, |x| with_numbers(&grad, |grad| backward(x, grad)))??;
        Ok(Some(Tensor::from_vec(grad_x, x.shape(), x.device())?))
    }
}

/// The activation's smallest piece of work for a thread.
const MIN_LEN: usize = 1 << 14;

/// Σ f(a, b) over the pairs of two slices, in a fixed order and in lanes that the compiler may keep in a vector.
fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(&a, &b)| f(a, b)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// The numbers of a contiguous f32 storage.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("batch norm and activation need contiguous tensors"),
    }
}

/// `f` of the numbers of a contiguous f32 tensor on the CPU.
fn with_numbers<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(numbers(storage, layout)?)),
        _ => bail!("an op of the CPU is given a tensor of another device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;
    use candle_core::{Device, Var};

    fn noise(name: &str, shape: &[usize]) -> Result<Tensor> {
        Streams::new(5).normal_images(name, 0..shape[0] as u64, &shape[1..], &Device::Cpu)
    }

    /// What [`normalise`] and [`activate`] make of x, and the gradients of x, weight and bias, all in f64.
    fn outputs_and_gradients(x: &Tensor, dtype: DType) -> Result<Vec<Tensor>> {
        let c = x.dim(1)?;
        let vars = [x.clone(), noise("weight", &[c])?, noise("bias", &[c])?]
            .map(|t| Var::from_tensor(&t.to_dtype(dtype)?));
        let [x, weight, bias] = vars;
        let (x, weight, bias) = (x?, weight?, bias?);
        let Normalised { y, mean, var } = normalise(&x, &weight, &bias, 1e-5)?;
        let z = activate(&y)?;
        let grads = (&z * noise("upstream", z.dims())?.to_dtype(dtype)?)?.sum_all()?.backward()?;
        let gradient =
            |var: &Var| grads.get(var).cloned().ok_or(candle_core::Error::Msg("no gradient".into()));
        [y, mean, var, z, gradient(&x)?, gradient(&weight)?, gradient(&bias)?]
            .iter()
            .map(|t| t.to_dtype(DType::F64))
            .collect()
    }

    #[test]
    fn ours_agree_with_candles_ops_in_double_precision() -> Result<()> {
        for shape in [[6, 3, 64], [5, 4, 9], [7, 10, 1]] {
            let x = (noise("x", &shape)? + 3.0)?;
            let (single, double) =
                (outputs_and_gradients(&x, DType::F32)?, outputs_and_gradients(&x, DType::F64)?);
            for (i, (single, double)) in single.iter().zip(&double).enumerate() {
                let error = (single - double)?.abs()?.max_all()?.to_scalar::<f64>()?;
                let size = double.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(error < 1e-5 * size, "{shape:?}, tensor {i}: {error} of {size}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_view_that_is_not_contiguous_is_normalised_all_the_same() -> Result<()> {
        let x = noise("x", &[4, 6, 8])?;
        let (one, zero) =
            (Tensor::ones(4, DType::F32, &Device::Cpu)?, Tensor::zeros(4, DType::F32, &Device::Cpu)?);
        let view = x.transpose(0, 1)?;
        let (y, expected) =
            (normalise(&view, &one, &zero, 1e-5)?.y, normalise(&view.contiguous()?, &one, &zero, 1e-5)?.y);
        assert_eq!(y.to_vec3::<f32>()?, expected.to_vec3::<f32>()?);
        Ok(())
    }

    #[test]
    fn no_numbers_are_an_error() -> Result<()> {
        let x = Tensor::zeros((0, 2, 3), DType::F32, &Device::Cpu)?;
        let weight = Tensor::ones(2, DType::F32, &Device::Cpu)?;
        assert!(normalise(&x, &weight, &weight, 1e-5).is_err());
        Ok(())
    }

    #[test]
    fn the_activation_leaks_and_is_shifted() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let y = activate(&Tensor::new(&[-2f32, 0.0, 3.0], &Device::Cpu)?.to_dtype(dtype)?)?;
            let y = y.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            for (y, expected) in y.into_iter().zip([-0.6, -0.4, 2.6]) {
                assert!((y - expected).abs() < 1e-6, "{y} is not {expected}");
            }
        }
        Ok(())
    }
}
