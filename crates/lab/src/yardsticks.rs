//! What a FID means: real images, whole and spoilt a little, to be scored as samples are.

use crate::run::Run;
use anyhow::Result;
use candle_core::Tensor;
use elucidate_core::data::{IMAGE, PixelRange};
use elucidate_core::rng::Streams;
use elucidate_kernels::{FeatureMaps, Shift, conv2d};
use rand::seq::index;

/// `n` real training images, drawn by `seed`: (n, 1, 32, 32) in [−1, 1].
///
/// # Errors
/// Those of the device.
pub(crate) fn real(run: &Run, n: usize, seed: u64) -> Result<Tensor> {
    let mut stream = Streams::new(seed).stream("floor", 0);
    let indices = index::sample(&mut stream, run.settings.train_images, n).into_vec();
    Ok(run.data.train.batch(&indices, PixelRange::SIGNED, &run.device)?)
}

/// As many real training images as samples are drawn (the floor), the same with noise of 0.05 and 0.1, and the same blurred
/// by half a pixel: each with its name.
///
/// # Errors
/// Those of the device.
pub(crate) fn all(run: &Run, n: usize, seed: u64) -> Result<[(&'static str, Tensor); 4]> {
    let real = real(run, n, seed)?;
    let noise = Streams::new(seed).normal_images("yardstick noise", 0..n as u64, &IMAGE, &run.device)?;
    let noisy = |std: f64| -> Result<Tensor> { Ok((&real + (&noise * std)?)?.clamp(-1.0, 1.0)?) };
    Ok([
        ("real", real.clone()),
        ("real_noise_0.05", noisy(0.05)?),
        ("real_noise_0.1", noisy(0.1)?),
        ("real_blur_0.5", blur(&real, 0.5)?),
    ])
}

/// Gaussian blur with standard deviation `sigma` pixels; beyond the border lies black, −1.
fn blur(images: &Tensor, sigma: f64) -> Result<Tensor> {
    const REACH: i32 = 2;
    let weights: Vec<f32> =
        (-REACH..=REACH).map(|i| (-f64::from(i * i) / (2.0 * sigma * sigma)).exp() as f32).collect();
    let sum: f32 = weights.iter().sum();
    let line = Tensor::from_vec(weights, 2 * REACH as usize + 1, images.device())?
        .affine(1.0 / f64::from(sum), 0.0)?;
    let kernel = line.unsqueeze(1)?.matmul(&line.unsqueeze(0)?)?.unsqueeze(0)?.unsqueeze(0)?;
    let light = FeatureMaps::new(&(images + 1.0)?)?;
    Ok((conv2d(&light, &kernel, Shift::None, 1, REACH as usize)?.to_tensor()? - 1.0)?)
}
