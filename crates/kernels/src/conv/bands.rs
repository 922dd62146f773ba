//! How a convolution's output is shared among threads.

use super::plan::Size;
use crate::maps::LANES;
use std::ops::Range;

/// A part of feature maps: some rows of one block of images, or some whole blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band {
    pub(super) blocks: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// Cuts maps of `blocks` blocks into bands of about `pixels` pixels, whose first rows are multiples of `unit`. It depends
/// on the shape alone: so do the sums that are taken band by band.
pub(super) fn bands(size: Size, blocks: usize, unit: usize, pixels: usize) -> Vec<Band> {
    let rows = unit * pixels.div_ceil(unit * size.width);
    if rows < size.height {
        let of_block = |block: usize| {
            let band = move |first: usize| {
                let rows = first..(first + rows).min(size.height);
                Band { blocks: block..block + 1, rows }
            };
            (0..size.height).step_by(rows).map(band)
        };
        return (0..blocks).flat_map(of_block).collect();
    }
    let together = (pixels / size.pixels()).max(1);
    let band = |first: usize| Band { blocks: first..(first + together).min(blocks), rows: 0..size.height };
    (0..blocks).step_by(together).map(band).collect()
}

/// The numbers of each band of `maps` (blocks, h, w, c, 16).
pub(super) fn split(bands: Vec<Band>, size: Size, mut maps: &mut [f32]) -> Vec<(Band, &mut [f32])> {
    let mut parts = vec![];
    for band in bands {
        let pixels = band.blocks.len() * band.rows.len() * size.width;
        let (part, rest) = maps.split_at_mut(pixels * size.channels * LANES);
        parts.push((band, part));
        maps = rest;
    }
    parts
}
