//! Tensors as pictures.

use candle_core::{Result, Tensor};
use elucidate_report::Picture;

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
