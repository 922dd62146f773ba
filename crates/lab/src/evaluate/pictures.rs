//! Tensors as pictures.

use candle_core::{Result, Tensor};
use elucidate_report::{Picture, picture_grid};
use std::path::Path;

/// Pictures in a row, and rows of a setting's samples.
pub const COLUMNS: usize = 12;
const ROWS: usize = 8;

/// The first `n` images of (n, 1, h, w), black at `range.0` and white at `range.1`.
///
/// # Errors
/// When the images have more than one channel.
pub fn pictures(images: &Tensor, n: usize, range: (f32, f32)) -> Result<Vec<Picture>> {
    let (count, channels, _, width) = images.dims4()?;
    if channels != 1 {
        candle_core::bail!("pictures are grey: {channels} channels are too many");
    }
    (0..n.min(count))
        .map(|i| Ok(Picture::from_range(&images.get(i)?.flatten_all()?.to_vec1()?, width, range.0, range.1)))
        .collect()
}

/// Writes a grid of the first samples (n, 1, h, w) in [−1, 1].
///
/// # Errors
/// When the images have more than one channel or the file cannot be written.
pub fn sample_grid(path: &Path, samples: &Tensor) -> anyhow::Result<()> {
    picture_grid(path, &pictures(samples, ROWS * COLUMNS, (-1.0, 1.0))?, COLUMNS, &[])
}
