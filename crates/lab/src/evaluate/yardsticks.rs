//! What a FID means: real images, whole and spoilt a little, to be scored as samples are.

use crate::run::Run;
use anyhow::{Result, bail};
use candle_core::Tensor;
use elucidate_core::data::{IMAGE, PixelRange};
use elucidate_core::rng::Streams;
use elucidate_kernels::{FeatureMaps, Shift, conv2d};
use rand::seq::index;

/// The floor, and the yardsticks above it.
pub(crate) const NAMES: [&str; 4] = ["real", "real_noise_0.05", "real_noise_0.1", "real_blur_0.5"];

/// `n` real training images, drawn by `seed`: (n, 1, 32, 32) in [−1, 1].
fn real(run: &Run, n: usize, seed: u64) -> Result<Tensor> {
    let mut stream = Streams::new(seed).stream("floor", 0);
    let indices = index::sample(&mut stream, run.settings.training.train_images, n).into_vec();
    Ok(run.data.train.batch(&indices, PixelRange::SIGNED, &run.device)?)
}

/// `n` real training images drawn by `seed`, as `name`, one of [`NAMES`], says: whole (the floor), with noise of 0.05 or
/// 0.1, or blurred by half a pixel. (n, 1, 32, 32) in [−1, 1].
///
/// # Errors
/// When there is no such yardstick, and those of the device.
pub(crate) fn draw(run: &Run, name: &str, n: usize, seed: u64) -> Result<Tensor> {
    let real = real(run, n, seed)?;
    let noisy = |std: f64| -> Result<Tensor> {
        let streams = Streams::new(seed);
        let noise = streams.normal_images("yardstick noise", 0..n as u64, &IMAGE, &run.device)?;
        Ok((&real + (noise * std)?)?.clamp(-1.0, 1.0)?)
    };
    match name {
        "real" => Ok(real),
        "real_noise_0.05" => noisy(0.05),
        "real_noise_0.1" => noisy(0.1),
        "real_blur_0.5" => blur(&real, 0.5),
        _ => bail!("there is no yardstick {name}"),
    }
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
