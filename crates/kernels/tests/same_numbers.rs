//! The same numbers, bit by bit, with any number of threads and any vectors: in a process of its own, since vectors are
//! limited for all of it.

use candle_core::{Device, Result, Tensor, Var};
use elucidate_kernels::{
    FeatureMaps, Shift, Vectors, attention, batch_norm, conv2d, group_norm, halve, leaky_relu, limit_vectors,
    upsample_conv2d,
};

/// Numbers without pattern between -1 and 1.
fn noise(seed: u32, shape: &[usize]) -> Result<Var> {
    let count: usize = shape.iter().product();
    let number = |i: u32| (seed.wrapping_add(i).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
    Var::from_tensor(&Tensor::from_vec((0..count as u32).map(number).collect(), shape, &Device::Cpu)?)
}

/// A little network of all kernels: the bits of its result and of all gradients.
fn bits() -> Result<Vec<Vec<u32>>> {
    let x = noise(1, &[37, 3, 10, 9])?;
    let weights = [
        noise(2, &[12, 3, 3, 3])?,
        noise(3, &[12, 12, 3, 3])?,
        noise(4, &[36, 12, 1, 1])?,
        noise(5, &[12, 12, 3, 3])?,
        noise(6, &[70, 12, 5, 5])?,
    ];
    let winograd = noise(9, &[12, 12, 3, 3])?;
    let (scale, shift) = (noise(7, &[12])?, noise(8, &[37, 12, 1, 1])?);
    let y = conv2d(&FeatureMaps::new(&x)?, &weights[0], Shift::Channels(&scale), 1, 1)?;
    let y = group_norm(&y, &scale, &scale, 4, 1e-5, true)?;
    let y = conv2d(&y, &winograd, Shift::Channels(&scale), 1, 1)?;
    let y = conv2d(&y, &winograd, Shift::None, 1, 2)?;
    let y = conv2d(&y, &weights[1], Shift::Images(&FeatureMaps::new(&shift)?), 2, 1)?;
    let y = attention(&conv2d(&y, &weights[2], Shift::None, 1, 0)?, 2, 0.4)?.add(&y)?;
    let y = batch_norm(&upsample_conv2d(&y, &weights[3], Shift::None)?, &scale, &scale, 1e-5)?.y;
    let y = conv2d(&halve(&leaky_relu(&y, 0.1, 0.2)?)?, &weights[4], Shift::None, 1, 2)?.to_tensor()?;
    let grads = y.sqr()?.mean_all()?.backward()?;
    let mut all = vec![y];
    for var in [&x, &scale, &shift, &winograd].into_iter().chain(&weights) {
        all.push(grads.get(var).expect("every input has a gradient").clone());
    }
    all.iter()
        .map(|t| Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect()))
        .collect()
}

#[test]
fn threads_and_vectors_change_no_bit() -> Result<()> {
    let expected = bits()?;
    assert!(expected.iter().all(|bits| bits.iter().any(|&b| f32::from_bits(b) != 0.0)));
    for threads in [1, 2, 3, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        assert!(pool.install(bits)? == expected, "{threads} threads give other numbers");
    }
    for vectors in [Vectors::Avx2, Vectors::Scalar] {
        limit_vectors(vectors);
        assert!(bits()? == expected, "{vectors:?} gives other numbers");
    }
    Ok(())
}
