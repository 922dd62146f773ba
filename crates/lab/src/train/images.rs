//! The images of a run and the noise that goes with them.

use crate::run::Run;
use candle_core::{Device, Result, Tensor};
use elucidate_core::data::{FashionMnist, IMAGE, PixelRange, Split};
use elucidate_core::rng::Streams;

/// Fashion-MNIST as an experiment sees it: in its range of pixels, each image with noise of its own number.
#[derive(Debug, Clone)]
pub struct Images {
    /// The data.
    pub data: FashionMnist,
    /// The run's random streams.
    pub streams: Streams,
    /// Where the images go.
    pub device: Device,
    /// How many test images the run uses.
    pub test_images: usize,
    range: PixelRange,
}

impl Images {
    /// Those of a run.
    pub fn of(run: &Run, range: PixelRange) -> Self {
        Self {
            data: run.data.clone(),
            streams: run.streams,
            device: run.device.clone(),
            test_images: run.settings.scoring.test_images,
            range,
        }
    }

    /// Images `indices` of `split`, and standard normal noise for them: numbers `positions` of the stream
    /// `"{name} noise"`. Both (n, 1, 32, 32).
    ///
    /// # Errors
    /// When an index is too large, or the device refuses the copy.
    pub fn with_noise(
        &self,
        split: &Split,
        indices: &[usize],
        positions: &[u64],
        name: &str,
    ) -> Result<(Tensor, Tensor)> {
        let clean = split.batch(indices, self.range, &self.device)?;
        let noise = self.streams.normal_for(&format!("{name} noise"), positions, &IMAGE, &self.device)?;
        Ok((clean, noise))
    }
}

/// The indices as numbers of streams: a test image always has the same noise.
pub fn numbers(indices: &[usize]) -> Vec<u64> {
    indices.iter().map(|&i| i as u64).collect()
}
