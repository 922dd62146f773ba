//! Kernels on one core at the shapes of the lesson's UNet and of the quick preset's, 32 images each; items are
//! floating-point operations of the definition, so "Gitem/s" reads GFLOP/s. The matrix product is the limit to compare
//! with. `cargo bench -p elucidate-kernels`

use candle_core::{Device, Result, Tensor, Var};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use elucidate_kernels::{FeatureMaps, Shift, attention, conv2d, group_norm, upsample_conv2d};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IMAGES: usize = 32;

fn main() {
    elucidate_kernels::set_up(1).expect("no thread has started");
    divan::main();
}

fn normal(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).expect("a tensor")
}

/// Maps of size × size with this many channels go in and out of a kernel.
#[derive(Debug, Clone, Copy)]
enum Conv {
    Same { size: usize, channels: usize, out: usize, kernel: usize },
    Down { size: usize, channels: usize },
    Up { size: usize, channels: usize },
}

impl std::fmt::Display for Conv {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Same { size, channels, out, kernel } => {
                write!(f, "{kernel}x{kernel} {channels}->{out} at {size}")
            }
            Self::Down { size, channels } => write!(f, "stride 2 {channels} at {size}"),
            Self::Up { size, channels } => write!(f, "upsampling {channels} at {size}"),
        }
    }
}

const SHAPES: [Conv; 16] = [
    Conv::Same { size: 32, channels: 16, out: 16, kernel: 3 },
    Conv::Same { size: 32, channels: 32, out: 32, kernel: 3 },
    Conv::Same { size: 32, channels: 64, out: 32, kernel: 3 },
    Conv::Same { size: 32, channels: 64, out: 32, kernel: 1 },
    Conv::Same { size: 16, channels: 32, out: 32, kernel: 3 },
    Conv::Same { size: 16, channels: 64, out: 64, kernel: 3 },
    Conv::Same { size: 16, channels: 64, out: 192, kernel: 1 },
    Conv::Same { size: 8, channels: 64, out: 64, kernel: 3 },
    Conv::Same { size: 8, channels: 128, out: 128, kernel: 3 },
    Conv::Same { size: 4, channels: 256, out: 256, kernel: 3 },
    Conv::Same { size: 4, channels: 512, out: 256, kernel: 3 },
    Conv::Down { size: 32, channels: 32 },
    Conv::Down { size: 8, channels: 128 },
    Conv::Up { size: 16, channels: 64 },
    Conv::Up { size: 8, channels: 128 },
    Conv::Up { size: 4, channels: 256 },
];

impl Conv {
    fn x(&self) -> Tensor {
        let (Self::Same { size, channels, .. } | Self::Down { size, channels } | Self::Up { size, channels }) =
            *self;
        normal(&[IMAGES, channels, size, size])
    }

    fn weight(&self) -> Tensor {
        match *self {
            Self::Same { channels, out, kernel, .. } => normal(&[out, channels, kernel, kernel]),
            Self::Down { channels, .. } | Self::Up { channels, .. } => normal(&[channels, channels, 3, 3]),
        }
    }

    fn run(&self, x: &FeatureMaps, weight: &Tensor) -> Result<FeatureMaps> {
        match self {
            Self::Same { kernel, .. } => conv2d(x, weight, Shift::None, 1, kernel / 2),
            Self::Down { .. } => conv2d(x, weight, Shift::None, 2, 1),
            Self::Up { .. } => upsample_conv2d(x, weight, Shift::None),
        }
    }

    fn flops(&self) -> ItemsCount {
        let pixels = match *self {
            Self::Same { size, .. } => size * size,
            Self::Down { size, .. } => size * size / 4,
            Self::Up { size, .. } => size * size * 4,
        };
        ItemsCount::new(2 * IMAGES * pixels * self.weight().elem_count())
    }
}

#[divan::bench(args = SHAPES)]
fn convolution(bencher: Bencher, conv: Conv) {
    let (x, weight) = (FeatureMaps::new(&conv.x()).expect("maps"), conv.weight());
    bencher.counter(conv.flops()).bench_local(|| conv.run(black_box(&x), &weight).expect("fits"));
}

/// Times the backward pass alone: `graph` makes the result anew for each.
fn backward(bencher: Bencher, flops: ItemsCount, graph: impl Fn() -> Result<Tensor>) {
    bencher
        .counter(flops)
        .with_inputs(|| graph().expect("fits"))
        .bench_local_values(|y| y.backward().expect("has a gradient"));
}

#[divan::bench(args = SHAPES)]
fn gradient_of_input(bencher: Bencher, conv: Conv) {
    let (maps, weight) = (FeatureMaps::new(&conv.x()).expect("maps"), conv.weight());
    let x = Var::from_tensor(maps.values()).expect("a variable");
    backward(bencher, conv.flops(), || {
        Ok(conv.run(&maps.with_values(x.as_tensor().clone()), &weight)?.values().clone())
    });
}

#[divan::bench(args = SHAPES)]
fn gradient_of_weight(bencher: Bencher, conv: Conv) {
    let x = FeatureMaps::new(&conv.x()).expect("maps");
    let weight = Var::from_tensor(&conv.weight()).expect("a variable");
    backward(bencher, conv.flops(), || Ok(conv.run(&x, weight.as_tensor())?.values().clone()));
}

/// (size, channels)
const NORMS: [(usize, usize); 4] = [(32, 16), (32, 32), (16, 64), (4, 256)];

#[divan::bench(args = NORMS)]
fn group_norm_silu(bencher: Bencher, (size, channels): (usize, usize)) {
    let x = FeatureMaps::new(&normal(&[IMAGES, channels, size, size])).expect("maps");
    let weight = normal(&[channels]);
    bencher
        .counter(ItemsCount::new(IMAGES * channels * size * size))
        .bench_local(|| group_norm(black_box(&x), &weight, &weight, 8, 1e-5, true).expect("fits"));
}

#[divan::bench(args = NORMS)]
fn group_norm_silu_gradient(bencher: Bencher, (size, channels): (usize, usize)) {
    let maps = FeatureMaps::new(&normal(&[IMAGES, channels, size, size])).expect("maps");
    let (x, weight) = (Var::from_tensor(maps.values()).expect("a variable"), normal(&[channels]));
    backward(bencher, ItemsCount::new(IMAGES * channels * size * size), || {
        let x = maps.with_values(x.as_tensor().clone());
        Ok(group_norm(&x, &weight, &weight, 8, 1e-5, true)?.values().clone())
    });
}

/// (size, channels), heads of width 8
const ATTENTIONS: [(usize, usize); 3] = [(16, 64), (8, 128), (4, 256)];

#[divan::bench(args = ATTENTIONS)]
fn attention_of_width_8(bencher: Bencher, (size, channels): (usize, usize)) {
    let qkv = FeatureMaps::new(&normal(&[IMAGES, 3 * channels, size, size])).expect("maps");
    let flops = ItemsCount::new(4 * IMAGES * channels * size.pow(4));
    bencher.counter(flops).bench_local(|| attention(black_box(&qkv), channels / 8, 0.3).expect("fits"));
}

#[divan::bench(args = ATTENTIONS)]
fn attention_of_width_8_gradient(bencher: Bencher, (size, channels): (usize, usize)) {
    let maps = FeatureMaps::new(&normal(&[IMAGES, 3 * channels, size, size])).expect("maps");
    let qkv = Var::from_tensor(maps.values()).expect("a variable");
    backward(bencher, ItemsCount::new(10 * IMAGES * channels * size.pow(4)), || {
        Ok(attention(&maps.with_values(qkv.as_tensor().clone()), channels / 8, 0.3)?.values().clone())
    });
}

/// What a product of two large matrices reaches.
#[divan::bench(args = [1024])]
fn matrix_product(bencher: Bencher, size: usize) {
    let (a, b) = (normal(&[size, size]), normal(&[size, size]));
    bencher.counter(ItemsCount::new(2 * size.pow(3))).bench_local(|| black_box(&a).matmul(&b).expect("fits"));
}
