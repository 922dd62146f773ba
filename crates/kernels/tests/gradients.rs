//! Every kernel against candle's own ops, which serve f64, or against its definition, and its gradients against finite
//! differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use elucidate_kernels::{attention, batch_norm, conv2d, group_norm, leaky_relu};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| StandardNormal.sample(&mut rng)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

/// The result of `op` and the gradients of Σ result·direction for each input, in `dtype`.
fn with_gradients(
    op: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    dtype: DType,
) -> Result<Vec<Tensor>> {
    let vars: Vec<Var> =
        inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(dtype)?)).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = op(&tensors)?;
    let direction = normal(99, y.dims()).to_dtype(dtype)?;
    let grads = (&y * direction)?.sum_all()?.backward()?;
    let mut all = vec![y.detach()];
    for var in &vars {
        all.push(grads.get(var).expect("every input has a gradient").clone());
    }
    Ok(all)
}

/// Largest difference relative to the largest value, or to 1 where cancellation left less.
fn difference(ours: &Tensor, reference: &Tensor) -> Result<f64> {
    let ours = ours.to_dtype(DType::F64)?;
    let scale = reference.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?.max(1.0);
    Ok((ours - reference)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()? / scale)
}

/// `op` in f32, which is ours, against itself in f64, which is candle's.
fn agrees(op: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> Result<()> {
    agrees_with(op, op, inputs)
}

fn agrees_with(
    op: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    reference: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
) -> Result<()> {
    let ours = with_gradients(op, inputs, DType::F32)?;
    let reference = with_gradients(reference, inputs, DType::F64)?;
    for (i, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
        assert_eq!(ours.dims(), reference.dims());
        let d = difference(ours, reference)?;
        assert!(d < 5e-5, "output or gradient {i} differs by {d:.1e}");
    }
    Ok(())
}

/// The directional derivative of `op` by central differences against the one from the gradients, all in f32 kernels.
fn matches_finite_differences(op: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> Result<()> {
    let value = |inputs: &[Tensor]| -> Result<f64> {
        let tensors: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32)).collect::<Result<_>>()?;
        let y = op(&tensors)?.to_dtype(DType::F64)?;
        (&y * normal(99, y.dims()))?.sum_all()?.to_scalar::<f64>()
    };
    let grads = with_gradients(op, inputs, DType::F32)?;
    for (i, grad) in grads[1..].iter().enumerate() {
        let direction = normal(7 + i as u64, inputs[i].dims());
        let h = 1e-2;
        let moved = |sign: f64| -> Result<f64> {
            let mut inputs = inputs.to_vec();
            inputs[i] = (&inputs[i] + (&direction * (sign * h))?)?;
            value(&inputs)
        };
        let numeric = (moved(1.0)? - moved(-1.0)?) / (2.0 * h);
        let exact = (grad.to_dtype(DType::F64)? * &direction)?.sum_all()?.to_scalar::<f64>()?;
        let scale = grad.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt().max(1.0);
        assert!(
            (numeric - exact).abs() < 5e-3 * scale,
            "input {i}: {numeric} by differences, {exact} by gradient"
        );
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Case {
    n: usize,
    channels: usize,
    out: usize,
    size: (usize, usize),
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Case {
    fn inputs(&self, seed: u64) -> Vec<Tensor> {
        vec![
            normal(seed, &[self.n, self.channels, self.size.0, self.size.1]),
            normal(seed + 1, &[self.out, self.channels, self.kernel, self.kernel]),
            normal(seed + 2, &[self.out]),
        ]
    }

    fn op(self) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        move |t| conv2d(&t[0], &t[1], Some(&t[2]), self.stride, self.padding)
    }

    /// The convolution as a sum of matrix products over its taps. candle's own is no reference: its gradient takes
    /// every image for a square one, and panics on some that are smaller than the kernel.
    fn reference(self) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        move |t| {
            let Self { n, out, size, kernel, stride, padding, .. } = self;
            let x = t[0].pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
            let count = |size: usize| (size + 2 * padding - kernel) / stride + 1;
            let (height, width) = (count(size.0), count(size.1));
            let every = |first: usize, count: usize| {
                Tensor::from_iter((0..count).map(|i| (first + i * stride) as u32), &Device::Cpu)
            };
            let mut y = t[2].reshape((1, out, 1))?.broadcast_as((n, out, height * width))?.contiguous()?;
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let read = x.index_select(&every(ky, height)?, 2)?.index_select(&every(kx, width)?, 3)?;
                    let tap = t[1].narrow(2, ky, 1)?.narrow(3, kx, 1)?.squeeze(3)?.squeeze(2)?;
                    y = (y + tap.contiguous()?.broadcast_matmul(&read.flatten_from(2)?)?)?;
                }
            }
            y.reshape((n, out, height, width))
        }
    }

    fn check(self, seed: u64) -> Result<()> {
        agrees_with(&self.op(), &self.reference(), &self.inputs(seed))
    }
}

fn case() -> impl Strategy<Value = Case> {
    let sizes = (1..40usize, 1..13usize, 1..19usize, (1..20usize, 1..20usize));
    (sizes, 1..6usize, 1..4usize, 0..3usize)
        .prop_map(|((n, channels, out, size), kernel, stride, padding)| Case {
            n,
            channels,
            out,
            size,
            kernel,
            stride,
            padding,
        })
        .prop_filter("the kernel fits and reaches beyond the padding", |c| {
            c.size.0.min(c.size.1) + 2 * c.padding >= c.kernel && c.kernel > c.padding
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolution_agrees_with_its_definition_on_any_shape(case in case(), seed in 0..1000u64) {
        case.check(seed).unwrap();
    }

    #[test]
    fn group_norm_agrees_with_candle_on_any_shape(
        n in 1..6usize, groups in 1..5usize, per_group in 1..5usize, h in 1..9usize, w in 2..9usize, silu: bool, seed in 0..1000u64,
    ) {
        let c = groups * per_group;
        let inputs = [normal(seed, &[n, c, h, w]), normal(seed + 1, &[c]), normal(seed + 2, &[c])];
        agrees(&|t| group_norm(&t[0], &t[1], &t[2], groups, 1e-2, silu), &inputs).unwrap();
    }

    #[test]
    fn batch_norm_agrees_with_candle_on_any_shape(
        n in 2..7usize, c in 1..9usize, size in 2..70usize, seed in 0..1000u64,
    ) {
        let inputs = [(normal(seed, &[n, c, size]) + 3.0).unwrap(), normal(seed + 1, &[c]), normal(seed + 2, &[c])];
        agrees(&|t| Ok(batch_norm(&t[0], &t[1], &t[2], 1e-2)?.y), &inputs).unwrap();
        let [ours, candles] = [DType::F32, DType::F64].map(|dtype| {
            let [x, w, b] = inputs.clone().map(|t| t.to_dtype(dtype).unwrap());
            batch_norm(&x, &w, &b, 1e-2).unwrap()
        });
        prop_assert!(difference(&ours.mean, &candles.mean).unwrap() < 1e-5);
        prop_assert!(difference(&ours.var, &candles.var).unwrap() < 1e-5);
    }

    #[test]
    fn attention_agrees_with_candle_on_any_shape(
        b in 1..9usize, l in 1..20usize, m in 1..70usize, d in 1..40usize, e in 1..40usize, seed in 0..1000u64,
    ) {
        let inputs = [normal(seed, &[b, l, d]), normal(seed + 1, &[b, m, d]), normal(seed + 2, &[b, m, e])];
        agrees(&|t| attention(&t[0], &t[1], &t[2], 0.5), &inputs).unwrap();
    }
}

#[test]
fn convolution_agrees_at_the_shapes_of_the_networks() -> Result<()> {
    let shape = |n, channels, out, size, kernel, stride| Case {
        n,
        channels,
        out,
        size: (size, size),
        kernel,
        stride,
        padding: kernel / 2,
    };
    for case in [
        shape(3, 1, 16, 32, 3, 1),
        shape(3, 48, 16, 32, 3, 1),
        shape(5, 32, 32, 32, 3, 2),
        shape(33, 64, 64, 8, 3, 1),
        shape(70, 128, 64, 4, 3, 1),
        shape(9, 512, 256, 4, 3, 1),
        shape(9, 96, 32, 16, 1, 1),
        shape(2, 16, 1, 32, 3, 1),
        shape(4, 1, 16, 32, 5, 1),
    ] {
        case.check(3)?;
    }
    Ok(())
}

#[test]
fn gradients_match_finite_differences() -> Result<()> {
    let case = Case { n: 3, channels: 3, out: 5, size: (7, 6), kernel: 3, stride: 2, padding: 1 };
    matches_finite_differences(&case.op(), &case.inputs(1))?;
    let case = Case { stride: 1, ..case };
    matches_finite_differences(&case.op(), &case.inputs(2))?;
    let inputs = [normal(1, &[2, 6, 5, 4]), normal(2, &[6]), normal(3, &[6])];
    for silu in [false, true] {
        matches_finite_differences(&|t| group_norm(&t[0], &t[1], &t[2], 2, 1e-5, silu), &inputs)?;
    }
    let inputs = [normal(1, &[2, 5, 4]), normal(2, &[2, 6, 4]), normal(3, &[2, 6, 4])];
    matches_finite_differences(&|t| attention(&t[0], &t[1], &t[2], 0.5), &inputs)
}

#[test]
fn leaky_relu_leaks_is_shifted_and_has_its_gradient() -> Result<()> {
    let y = leaky_relu(&Tensor::new(&[-2f32, 0.0, 3.0], &Device::Cpu)?, 0.1, 0.4)?.to_vec1::<f32>()?;
    for (y, expected) in y.into_iter().zip([-0.6, -0.4, 2.6]) {
        assert!((y - expected).abs() < 1e-6, "{y} is not {expected}");
    }
    agrees(&|t| leaky_relu(&t[0], 0.1, 0.4), &[normal(4, &[20_000, 3])])
}

#[test]
fn views_that_are_not_contiguous_are_served_all_the_same() -> Result<()> {
    let x = normal(1, &[4, 6, 8]);
    let (w, b) = (normal(2, &[4]), normal(3, &[4]));
    agrees(
        &|t| Ok(batch_norm(&t[0].transpose(0, 1)?, &t[1], &t[2], 1e-2)?.y),
        &[x.clone(), w.clone(), b.clone()],
    )?;
    agrees(&|t| group_norm(&t[0].transpose(0, 1)?, &t[1], &t[2], 2, 1e-2, true), &[x.clone(), w, b])?;
    agrees(&|t| leaky_relu(&t[0].t()?, 0.1, 0.4), &[x])
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let case = Case { n: 37, channels: 5, out: 6, size: (9, 9), kernel: 3, stride: 1, padding: 1 };
    let run = |threads| -> Result<Vec<Vec<f32>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let all = with_gradients(&case.op(), &case.inputs(5), DType::F32)?;
            all.iter().map(|t| t.flatten_all()?.to_vec1::<f32>()).collect()
        })
    };
    assert_eq!(run(1)?, run(3)?);
    Ok(())
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let (x, w) = (normal(1, &[2, 3, 8, 8]), normal(2, &[4, 5, 3, 3]));
    assert!(conv2d(&x, &w, None, 1, 1).is_err());
    let (q, k) = (normal(4, &[2, 5, 4]), normal(5, &[2, 6, 3]));
    assert!(attention(&q, &k, &k, 1.0).is_err());
    let scale = normal(3, &[3]);
    assert!(group_norm(&x, &scale, &scale, 2, 1e-5, false).is_err());
    let none = Tensor::zeros((0, 3, 4), DType::F32, &Device::Cpu).expect("a tensor of no numbers");
    let scale = scale.to_dtype(DType::F32).expect("a conversion");
    assert!(batch_norm(&none, &scale, &scale, 1e-5).is_err());
}
