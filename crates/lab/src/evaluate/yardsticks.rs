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

/// `n` real training images drawn by `seed`, as `name`, one of [`NAMES`], says. (n, 1, 32, 32) in [−1, 1].
///
/// # Errors
/// When there is no such yardstick, and those of the device.
pub(crate) fn draw(run: &Run, name: &str, n: usize, seed: u64) -> Result<Tensor> {
    spoil(name, &real(run, n, seed)?, seed)
}

/// `images` (n, 1, 32, 32) in [−1, 1] as `name` says: whole (the floor), with noise of 0.05 or 0.1 from `seed`, or blurred by half a
/// pixel.
fn spoil(name: &str, images: &Tensor, seed: u64) -> Result<Tensor> {
    let noisy = |std: f64| -> Result<Tensor> {
        let numbers = 0..images.dim(0)? as u64;
        let noise = Streams::new(seed).normal_images("yardstick noise", numbers, &IMAGE, images.device())?;
        Ok((images + (noise * std)?)?.clamp(-1.0, 1.0)?)
    };
    match name {
        "real" => Ok(images.clone()),
        "real_noise_0.05" => noisy(0.05),
        "real_noise_0.1" => noisy(0.1),
        "real_blur_0.5" => blur(images, 0.5),
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn numbers(images: &Tensor) -> Result<Vec<f32>> {
        Ok(images.flatten_all()?.to_vec1()?)
    }

    #[test]
    fn spoilt_images_are_what_their_names_say() -> Result<()> {
        let grey = Tensor::zeros((20, 1, 32, 32), DType::F32, &Device::Cpu)?;
        assert_eq!(numbers(&spoil("real", &grey, 1)?)?, numbers(&grey)?);
        for (name, std) in [("real_noise_0.05", 0.05f32), ("real_noise_0.1", 0.1)] {
            let noise = numbers(&spoil(name, &grey, 1)?)?;
            let n = noise.len() as f32;
            let found = (noise.iter().map(|v| v * v).sum::<f32>() / n).sqrt();
            // Four standard errors of a standard deviation.
            assert!((found / std - 1.0).abs() < 4.0 / (2.0 * n).sqrt(), "{name}: {found}");
            assert_ne!(noise, numbers(&spoil(name, &grey, 2)?)?);
        }
        let white = spoil("real_noise_0.1", &grey.ones_like()?, 1)?;
        assert!(numbers(&white)?.iter().all(|v| *v <= 1.0));
        assert!(spoil("real_noise", &grey, 1).is_err());
        Ok(())
    }

    #[test]
    fn blur_spreads_light_and_keeps_it() -> Result<()> {
        // A white pixel on black.
        let mut dot = vec![-1f32; 32 * 32];
        dot[16 * 32 + 16] = 1.0;
        let dot = Tensor::from_vec(dot, (1, 1, 32, 32), &Device::Cpu)?;
        let spread = numbers(&spoil("real_blur_0.5", &dot, 1)?)?;
        let light = |x: usize, y: usize| (spread[y * 32 + x] + 1.0) / 2.0;
        // exp(−2·d²) of half a pixel's Gaussian, over its sum in both directions.
        let sum: f32 = (-2i32..=2).map(|i| (-2.0 * (i * i) as f32).exp()).sum();
        for (x, y, squared) in [(16, 16, 0.0f32), (17, 16, 1.0), (16, 15, 1.0), (17, 17, 2.0), (18, 16, 4.0)]
        {
            let expected = (-2.0 * squared).exp() / (sum * sum);
            assert!((light(x, y) - expected).abs() < 1e-5, "{} is not {expected}", light(x, y));
        }
        let all: f32 = spread.iter().map(|v| (v + 1.0) / 2.0).sum();
        assert!((all - 1.0).abs() < 1e-4, "{all}");
        Ok(())
    }
}
