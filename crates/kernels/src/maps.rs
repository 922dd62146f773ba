//! Feature maps: what the network's layers pass on, laid out for the processor.

use crate::scratch::unwritten;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Images that lie side by side, one in each lane: as many as the widest vectors of today's processors hold.
pub(crate) const LANES: usize = 16;

/// One number of each of sixteen images.
pub(crate) type Lanes = [f32; LANES];

/// On the stack as the widest vectors like it: one that lies across two of the cache's lines takes twice the time.
#[repr(align(64))]
pub(crate) struct Aligned<T>(pub(crate) T);

/// Cuts the `pixel` numbers of each pixel into pieces of `piece`, and gives the i-th pieces of all pixels together: what
/// threads may write side by side.
pub(crate) fn pieces(maps: &mut [f32], pixel: usize, piece: usize) -> Vec<Vec<&mut [f32]>> {
    let mut pieces: Vec<Vec<&mut [f32]>> = vec![];
    pieces.resize_with(pixel.div_ceil(piece), || Vec::with_capacity(maps.len() / pixel));
    for numbers in maps.chunks_exact_mut(pixel) {
        pieces.iter_mut().zip(numbers.chunks_mut(piece)).for_each(|(pieces, piece)| pieces.push(piece));
    }
    pieces
}

/// The sum over all images, by halves.
#[inline(always)]
pub(crate) fn across(lanes: Lanes) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// A batch of feature maps between two layers: n images of c channels, h by w.
///
/// On the CPU in f32 they are *interleaved*, (⌈n/16⌉, h, w, c, 16): sixteen images side by side, so that every kernel
/// works on sixteen images with each instruction, whatever the size of image and head; no sum runs across lanes. Where n
/// is not a multiple of sixteen, images of zeros fill up the last block. On other devices, in other types and where
/// [`crate::force_candle_ops`] says so they are (n, c, h, w), and candle's own ops compute.
#[derive(Debug, Clone)]
pub struct FeatureMaps {
    pub(crate) values: Tensor,
    images: usize,
    interleaved: bool,
}

impl FeatureMaps {
    /// From images (n, c, h, w).
    ///
    /// # Errors
    /// When `x` has other than four dimensions, or no numbers.
    pub fn new(x: &Tensor) -> Result<Self> {
        let (images, ..) = x.dims4()?;
        if x.elem_count() == 0 {
            bail!("feature maps of no numbers at all: {:?}", x.dims());
        }
        let interleaved = crate::ours(x);
        let values = if interleaved { x.contiguous()?.apply_op1(Interleave)? } else { x.clone() };
        Ok(Self { values, images, interleaved })
    }

    /// The images (n, c, h, w).
    ///
    /// # Errors
    /// Those of the device.
    pub fn to_tensor(&self) -> Result<Tensor> {
        match self.interleaved {
            true => self.values.contiguous()?.apply_op1(Deinterleave { images: self.images }),
            false => Ok(self.values.clone()),
        }
    }

    /// The numbers as they lie in memory.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The same batch with other numbers, laid out alike.
    pub fn with_values(&self, values: Tensor) -> Self {
        Self { values, ..*self }
    }

    pub(crate) fn is_interleaved(&self) -> bool {
        self.interleaved
    }

    /// Images, channels, height and width.
    pub fn dims(&self) -> (usize, usize, usize, usize) {
        match (self.interleaved, self.values.dims()) {
            (true, &[_, h, w, c, _]) => (self.images, c, h, w),
            (false, &[n, c, h, w]) => (n, c, h, w),
            (_, dims) => unreachable!("feature maps of {dims:?}"),
        }
    }

    /// The channels of `self`, then those of `other`.
    ///
    /// # Errors
    /// When batch or size differ.
    pub fn cat(&self, other: &Self) -> Result<Self> {
        let channels = if self.interleaved { 3 } else { 1 };
        Ok(self.with_values(Tensor::cat(&[&self.values, &other.values], channels)?))
    }

    /// `zeros` rows of zeros below and as many columns on the right: (n, c, h + zeros, w + zeros).
    ///
    /// # Errors
    /// Those of the device.
    pub fn pad_with_zeros(&self, zeros: usize) -> Result<Self> {
        let rows = if self.interleaved { 1 } else { 2 };
        let padded = self.values.pad_with_zeros(rows, 0, zeros)?.pad_with_zeros(rows + 1, 0, zeros)?;
        Ok(self.with_values(padded))
    }

    /// The sum, number by number.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&self, other: &Self) -> Result<Self> {
        Ok(self.with_values((&self.values + &other.values)?))
    }

    /// Every channel times its number in `factor` (c), plus its number in `shift` (c).
    ///
    /// # Errors
    /// When the shapes do not fit together.
    pub fn affine(&self, factor: &Tensor, shift: &Tensor) -> Result<Self> {
        let along = |t: &Tensor| match self.interleaved {
            true => t.reshape((1, 1, 1, (), 1)),
            false => t.reshape((1, (), 1, 1)),
        };
        Ok(self.with_values(self.values.broadcast_mul(&along(factor)?)?.broadcast_add(&along(shift)?)?))
    }

    /// SiLU (Elfwing 2017) of every number.
    ///
    /// # Errors
    /// Those of the device.
    pub fn silu(&self) -> Result<Self> {
        Ok(self.with_values(self.values.silu()?))
    }

    /// Every number times `factor`.
    ///
    /// # Errors
    /// Those of the device.
    pub fn scale(&self, factor: f64) -> Result<Self> {
        Ok(self.with_values((&self.values * factor)?))
    }
}

/// (n, c, h, w) to (⌈n/16⌉, h, w, c, 16).
struct Interleave;

/// (⌈n/16⌉, h, w, c, 16) to (n, c, h, w).
struct Deinterleave {
    images: usize,
}

impl CustomOp1 for Interleave {
    fn name(&self) -> &'static str {
        "interleave"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = layout.shape().dims4()?;
        let blocks = n.div_ceil(LANES);
        let mut out = vec![0.0; blocks * c * h * w * LANES];
        let pieces =
            out.par_chunks_mut(c * h * w * LANES).zip(crate::slice(x, layout)?.par_chunks(c * h * w * LANES));
        pieces.for_each(|(out, images)| {
            for (lane, image) in images.chunks_exact(c * h * w).enumerate() {
                for (channel, values) in image.chunks_exact(h * w).enumerate() {
                    for (pixel, value) in values.iter().enumerate() {
                        out[(pixel * c + channel) * LANES + lane] = *value;
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((blocks, h, w, c, LANES))))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.contiguous()?.apply_op1_no_bwd(&Deinterleave { images: x.dim(0)? }).map(Some)
    }
}

impl CustomOp1 for Deinterleave {
    fn name(&self) -> &'static str {
        "deinterleave"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, h, w, c, _) = layout.shape().dims5()?;
        let mut out = unwritten(self.images * c * h * w);
        let pieces =
            out.par_chunks_mut(c * h * w * LANES).zip(crate::slice(x, layout)?.par_chunks(c * h * w * LANES));
        pieces.for_each(|(images, x)| {
            for (lane, image) in images.chunks_exact_mut(c * h * w).enumerate() {
                for (channel, values) in image.chunks_exact_mut(h * w).enumerate() {
                    for (pixel, value) in values.iter_mut().enumerate() {
                        *value = x[(pixel * c + channel) * LANES + lane];
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((self.images, c, h, w))))
    }

    fn bwd(&self, _x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.contiguous()?.apply_op1_no_bwd(&Interleave).map(Some)
    }
}
