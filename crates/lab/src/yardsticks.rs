//! What a FID means: real images, whole and spoilt a little, scored as samples are.

use crate::run::Run;
use crate::score::Table;
use anyhow::Result;
use candle_core::Tensor;
use elucidate_core::data::{IMAGE, PixelRange};
use elucidate_kernels::{FeatureMaps, Shift, conv2d};

/// Scores as many real training images as samples are drawn (the floor), the same with noise of 0.05 and 0.1, and the
/// same blurred by half a pixel.
///
/// # Errors
/// When they cannot be scored or written down.
pub(crate) fn score(run: &Run, table: &mut Table) -> Result<()> {
    let n = run.settings.samples;
    let indices: Vec<usize> = (0..n).collect();
    let real = run.data.train.batch(&indices, PixelRange::SIGNED, &run.device)?;
    let noise = run.streams.normal_images("yardstick noise", 0..n as u64, &IMAGE, &run.device)?;
    let noisy = |std: f64| -> Result<Tensor> { Ok((&real + (&noise * std)?)?.clamp(-1.0, 1.0)?) };
    let yardsticks = [
        ("real", real.clone()),
        ("real_noise_0.05", noisy(0.05)?),
        ("real_noise_0.1", noisy(0.1)?),
        ("real_blur_0.5", blur(&real, 0.5)?),
    ];
    yardsticks.iter().try_for_each(|(name, images)| table.add_real(run, name, images))
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
