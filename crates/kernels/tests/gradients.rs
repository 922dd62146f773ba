//! Every kernel against candle's own ops, which serve f64, or against its definition, and its gradients against finite
//! differences.

use candle_core::{DType, Device, Result, Tensor, Var};
use elucidate_kernels::{
    FeatureMaps, Shift, attention, batch_norm, conv2d, group_norm, halve, leaky_relu, upsample_conv2d,
};
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
    with_gradients_along(op, inputs, dtype, |dims| Ok(normal(99, dims)))
}

fn with_gradients_along(
    op: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    dtype: DType,
    direction: impl Fn(&[usize]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let vars: Vec<Var> =
        inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(dtype)?)).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = op(&tensors)?;
    let direction = direction(y.dims())?.to_dtype(dtype)?;
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
    /// Square maps, padded by half the kernel.
    fn square(n: usize, channels: usize, out: usize, size: usize, kernel: usize, stride: usize) -> Self {
        Self { n, channels, out, size: (size, size), kernel, stride, padding: kernel / 2 }
    }

    fn inputs(&self, seed: u64) -> Vec<Tensor> {
        vec![
            normal(seed, &[self.n, self.channels, self.size.0, self.size.1]),
            normal(seed + 1, &[self.out, self.channels, self.kernel, self.kernel]),
            normal(seed + 2, &[self.out]),
        ]
    }

    fn op(self) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        move |t| {
            let x = FeatureMaps::new(&t[0])?;
            conv2d(&x, &t[1], Shift::Channels(&t[2]), self.stride, self.padding)?.to_tensor()
        }
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
    fn winograds_form_agrees_with_the_definition_on_any_shape(
        n in 1..40usize, channels in 8..40usize, out in 8..40usize, h in 1..14usize, w in 1..14usize,
        padding in 0..3usize, seed in 0..1000u64,
    ) {
        prop_assume!(h.min(w) + 2 * padding >= 3);
        Case { n, channels, out, size: (h, w), kernel: 3, stride: 1, padding }.check(seed).unwrap();
    }

    #[test]
    fn upsampling_agrees_with_candle_on_any_shape(
        n in 1..40usize, channels in 1..9usize, out in 1..15usize, h in 1..9usize, w in 1..9usize, seed in 0..1000u64,
    ) {
        // Two numbers for each channel: a shift that each image has for itself.
        let inputs =
            [normal(seed, &[n, channels, h, w]), normal(seed + 1, &[out, channels, 3, 3]), normal(seed + 2, &[n, out, 1, 1])];
        let op = |t: &[Tensor]| {
            let shift = FeatureMaps::new(&t[2])?;
            upsample_conv2d(&FeatureMaps::new(&t[0])?, &t[1], Shift::Images(&shift))?.to_tensor()
        };
        // candle's gradient of upsampling takes every image for a square one.
        let reference = |t: &[Tensor]| {
            let rows = t[0].unsqueeze(3)?.broadcast_as((n, channels, h, 2, w))?.reshape((n, channels, 2 * h, w))?;
            let up = rows.unsqueeze(4)?.broadcast_as((n, channels, 2 * h, w, 2))?.reshape((n, channels, 2 * h, 2 * w))?;
            let case = Case { n, channels, out, size: (2 * h, 2 * w), kernel: 3, stride: 1, padding: 1 };
            let none = Tensor::zeros(out, t[0].dtype(), t[0].device())?;
            case.reference()(&[up, t[1].clone(), none])?.broadcast_add(&t[2])
        };
        agrees_with(&op, &reference, &inputs).unwrap();
    }

    #[test]
    fn group_norm_agrees_with_candle_on_any_shape(
        n in 1..40usize, groups in 1..5usize, per_group in 1..5usize, h in 1..9usize, w in 2..9usize, silu: bool, seed in 0..1000u64,
    ) {
        let c = groups * per_group;
        let inputs = [normal(seed, &[n, c, h, w]), normal(seed + 1, &[c]), normal(seed + 2, &[c])];
        let op = |t: &[Tensor]| group_norm(&FeatureMaps::new(&t[0])?, &t[1], &t[2], groups, 1e-2, silu)?.to_tensor();
        agrees(&op, &inputs).unwrap();
    }

    #[test]
    fn batch_norm_agrees_with_candle_on_any_shape(
        n in 1..40usize, c in 1..9usize, h in 1..9usize, w in 2..9usize, seed in 0..1000u64,
    ) {
        let inputs = [(normal(seed, &[n, c, h, w]) + 3.0).unwrap(), normal(seed + 1, &[c]), normal(seed + 2, &[c])];
        agrees(&|t| batch_norm(&FeatureMaps::new(&t[0])?, &t[1], &t[2], 1e-2)?.y.to_tensor(), &inputs).unwrap();
        let [ours, candles] = [DType::F32, DType::F64].map(|dtype| {
            let [x, w, b] = inputs.clone().map(|t| t.to_dtype(dtype).unwrap());
            batch_norm(&FeatureMaps::new(&x).unwrap(), &w, &b, 1e-2).unwrap()
        });
        prop_assert!(difference(&ours.mean, &candles.mean).unwrap() < 1e-5);
        prop_assert!(difference(&ours.var, &candles.var).unwrap() < 1e-5);
    }

    #[test]
    fn attention_agrees_with_candle_on_any_shape(
        n in 1..40usize, heads in 1..4usize, width in 1..13usize, h in 1..10usize, w in 1..10usize, seed in 0..1000u64,
    ) {
        let inputs = [normal(seed, &[n, 3 * heads * width, h, w])];
        agrees(&|t| attention(&FeatureMaps::new(&t[0])?, heads, 0.5)?.to_tensor(), &inputs).unwrap();
    }

    #[test]
    fn halving_agrees_with_candle_on_any_shape(
        n in 1..40usize, c in 1..9usize, h in 1..9usize, w in 1..9usize, seed in 0..1000u64,
    ) {
        agrees(&|t| halve(&FeatureMaps::new(&t[0])?)?.to_tensor(), &[normal(seed, &[n, c, h, w])]).unwrap();
    }

    #[test]
    fn maps_join_add_and_scale_as_tensors_do(
        n in 1..40usize, c in 1..9usize, d in 1..9usize, h in 1..9usize, w in 1..9usize, seed in 0..1000u64,
    ) {
        let inputs = [normal(seed, &[n, c, h, w]), normal(seed + 1, &[n, d, h, w]), normal(seed + 2, &[c + d])];
        let op = |t: &[Tensor]| {
            let both = FeatureMaps::new(&t[0])?.cat(&FeatureMaps::new(&t[1])?)?;
            both.add(&both.affine(&t[2], &t[2])?.silu()?.scale(0.5)?)?.to_tensor()
        };
        agrees(&op, &inputs).unwrap();
    }
}

#[test]
fn convolution_agrees_at_the_shapes_of_the_networks() -> Result<()> {
    for case in [
        Case::square(3, 1, 16, 32, 3, 1),
        Case::square(3, 48, 16, 32, 3, 1),
        Case::square(5, 32, 32, 32, 3, 2),
        Case::square(33, 64, 64, 8, 3, 1),
        Case::square(70, 128, 64, 4, 3, 1),
        Case::square(9, 512, 256, 4, 3, 1),
        Case::square(9, 96, 32, 16, 1, 1),
        Case::square(2, 16, 1, 32, 3, 1),
        Case::square(4, 1, 16, 32, 5, 1),
    ] {
        case.check(3)?;
    }
    Ok(())
}

/// The largest errors of the result, of the input's gradient and of the weights', each relative to the sum of the
/// magnitudes that it is a sum of.
fn relative_errors(case: Case) -> Result<[f64; 3]> {
    let inputs = case.inputs(5);
    let ours = with_gradients(&case.op(), &inputs, DType::F32)?;
    let exact = with_gradients(&case.reference(), &inputs, DType::F64)?;
    let magnitudes: Vec<Tensor> = inputs.iter().map(Tensor::abs).collect::<Result<_>>()?;
    let sums =
        with_gradients_along(&case.reference(), &magnitudes, DType::F64, |dims| normal(99, dims).abs())?;
    let mut errors = [0.0; 3];
    for (i, error) in errors.iter_mut().enumerate() {
        let off = (ours[i].to_dtype(DType::F64)? - &exact[i])?.abs()?;
        *error = off.div(&sums[i])?.flatten_all()?.max(0)?.to_scalar()?;
    }
    Ok(errors)
}

/// f32 has 6e-8. Winograd's form adds numbers that its transforms have made up to a hundred times as large.
#[test]
fn errors_are_small_beside_the_magnitudes_summed() -> Result<()> {
    let case = |channels, out, size, kernel, stride| Case::square(17, channels, out, size, kernel, stride);
    let winograd = [
        case(16, 16, 32, 3, 1),
        case(32, 32, 16, 3, 1),
        case(64, 32, 13, 3, 1),
        case(64, 64, 8, 3, 1),
        case(256, 256, 4, 3, 1),
    ];
    let definition = [case(32, 32, 16, 3, 2), case(64, 32, 16, 1, 1), case(4, 16, 16, 3, 1)];
    for (bound, cases) in [(1e-5, &winograd[..]), (3e-7, &definition[..])] {
        for &case in cases {
            let errors = relative_errors(case)?;
            println!("{case:?}: {:.1e} {:.1e} {:.1e}", errors[0], errors[1], errors[2]);
            assert!(errors.iter().all(|&error| error < bound), "{case:?}: {errors:?} are not below {bound}");
        }
    }
    Ok(())
}

#[test]
fn gradients_match_finite_differences() -> Result<()> {
    let case = Case { n: 3, channels: 3, out: 5, size: (7, 6), kernel: 3, stride: 2, padding: 1 };
    matches_finite_differences(&case.op(), &case.inputs(1))?;
    let case = Case { stride: 1, ..case };
    matches_finite_differences(&case.op(), &case.inputs(2))?;
    for padding in 0..3 {
        let winograd = Case { n: 3, channels: 9, out: 10, size: (7, 6), kernel: 3, stride: 1, padding };
        matches_finite_differences(&winograd.op(), &winograd.inputs(3))?;
    }
    let up = [normal(1, &[3, 3, 4, 5]), normal(2, &[5, 3, 3, 3]), normal(3, &[5])];
    let op =
        |t: &[Tensor]| upsample_conv2d(&FeatureMaps::new(&t[0])?, &t[1], Shift::Channels(&t[2]))?.to_tensor();
    matches_finite_differences(&op, &up)?;
    let inputs = [normal(1, &[2, 6, 5, 4]), normal(2, &[6]), normal(3, &[6])];
    for silu in [false, true] {
        let op =
            |t: &[Tensor]| group_norm(&FeatureMaps::new(&t[0])?, &t[1], &t[2], 2, 1e-5, silu)?.to_tensor();
        matches_finite_differences(&op, &inputs)?;
    }
    let op = |t: &[Tensor]| batch_norm(&FeatureMaps::new(&t[0])?, &t[1], &t[2], 1e-5)?.y.to_tensor();
    matches_finite_differences(&op, &inputs)?;
    let op = |t: &[Tensor]| attention(&FeatureMaps::new(&t[0])?, 2, 0.5)?.to_tensor();
    matches_finite_differences(&op, &[normal(1, &[2, 24, 3, 5])])?;
    matches_finite_differences(&|t| halve(&FeatureMaps::new(&t[0])?)?.to_tensor(), &inputs[..1])
}

#[test]
fn leaky_relu_leaks_is_shifted_and_has_its_gradient() -> Result<()> {
    let x = Tensor::new(&[[[[-2f32, 0.0, 3.0]]]], &Device::Cpu)?;
    let y = leaky_relu(&FeatureMaps::new(&x)?, 0.1, 0.4)?.to_tensor()?.flatten_all()?.to_vec1::<f32>()?;
    for (y, expected) in y.into_iter().zip([-0.6, -0.4, 2.6]) {
        assert!((y - expected).abs() < 1e-6, "{y} is not {expected}");
    }
    let op = |t: &[Tensor]| leaky_relu(&FeatureMaps::new(&t[0])?, 0.1, 0.4)?.to_tensor();
    agrees(&op, &[normal(4, &[20, 100, 10, 3])])
}

#[test]
fn views_that_are_not_contiguous_are_served_all_the_same() -> Result<()> {
    let x = normal(1, &[4, 6, 8, 3]);
    let op = |t: &[Tensor]| {
        let x = FeatureMaps::new(&t[0].transpose(0, 1)?)?;
        group_norm(&x, &t[1].narrow(0, 1, 4)?, &t[2], 2, 1e-2, true)?.to_tensor()
    };
    agrees(&op, &[x, normal(2, &[6]), normal(3, &[4])])
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let (x, w) = (normal(1, &[2, 3, 8, 8]), normal(2, &[4, 5, 3, 3]));
    let scale = normal(3, &[3]);
    for dtype in [DType::F32, DType::F64] {
        let [x, w, scale] = [&x, &w, &scale].map(|t| t.to_dtype(dtype).expect("a conversion"));
        let x = FeatureMaps::new(&x).expect("maps");
        assert!(conv2d(&x, &w, Shift::None, 1, 1).is_err());
        assert!(upsample_conv2d(&x, &w, Shift::None).is_err());
        let fits = w.narrow(1, 0, 3).expect("three of five channels");
        assert!(conv2d(&x, &fits, Shift::Channels(&scale), 1, 1).is_err());
        assert!(conv2d(&x, &fits, Shift::None, 0, 1).is_err());
        assert!(attention(&x, 2, 1.0).is_err());
        assert!(group_norm(&x, &scale, &scale, 2, 1e-5, false).is_err());
        assert!(x.cat(&FeatureMaps::new(&w).expect("maps")).is_err());
    }
    let none = Tensor::zeros((0, 3, 4, 4), DType::F32, &Device::Cpu).expect("a tensor of no numbers");
    assert!(FeatureMaps::new(&none).is_err());
    assert!(FeatureMaps::new(&scale).is_err());
}

/// What candle had wrong until 0.11 (its issues 3735 on the CPU and 3893 on CUDA): our kernels' fallback on other devices, and
/// what they are compared with.
#[test]
fn candles_gradients_of_a_kernel_that_is_not_contiguous_are_those_of_its_copy() -> Result<()> {
    let device = Device::cuda_if_available(0)?;
    let on_device = |x: Tensor| x.to_dtype(DType::F32)?.to_device(&device);
    for size in [1, 3] {
        let x = Var::from_tensor(&on_device(normal(1, &[2, 3, 5, 5]))?)?;
        let transposed = Var::from_tensor(&on_device(normal(2, &[3, 4, size, size]))?)?;
        let sliced = Var::from_tensor(&on_device(normal(3, &[4, 7, size, size]))?)?;
        let kernels: [(&Var, &dyn Fn() -> Result<Tensor>); 2] = [
            (&transposed, &|| transposed.transpose(0, 1)),
            // It does not begin at the first number either.
            (&sliced, &|| sliced.narrow(1, 2, 3)),
        ];
        for (var, kernel) in kernels {
            let gradients = |kernel: Tensor| -> Result<[Tensor; 3]> {
                let y = x.conv2d(&kernel, size / 2, 1, 1, 1)?;
                let grads = y.sqr()?.sum_all()?.backward()?;
                let of = |var: &Var| grads.get(var).expect("it has a gradient").clone();
                Ok([y.detach(), of(&x), of(var)])
            };
            assert!(!kernel()?.is_contiguous());
            let found = gradients(kernel()?)?;
            for (found, expected) in found.iter().zip(gradients(kernel()?.contiguous()?)?) {
                let off = difference(found, &expected.to_dtype(DType::F64)?)?;
                assert!(off < 1e-5, "a kernel of {size}: {off:.1e}");
            }
        }
    }
    Ok(())
}
