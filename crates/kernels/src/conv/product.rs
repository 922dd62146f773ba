//! The two matrix products that a convolution is made of, in registers of whatever vectors the processor has.

use pulp::{Arch, Simd, WithSimd};
use std::array::from_fn;

/// Depth of the left factor that is summed over before the next block, so that a panel stays in the first cache.
const DEPTH: usize = 768;

/// Rows of a small panel, for what does not fill a tall one.
const SMALL: usize = 4;

/// The register tile of this processor. Sums, a piece of the right factor and one number of the left fill the vector
/// registers: 6 × 2 vectors where there are 16, 8 × 3 where there are 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Rows of a tall panel.
    rows: usize,
    /// Numbers of the right factor at a time.
    pub(crate) width: usize,
}

impl Tile {
    pub(crate) fn new(arch: Arch) -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = Tile;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Tile {
                match S::REGISTER_COUNT {
                    32.. => Tile { rows: 8, width: 3 * S::F32_LANES },
                    _ => Tile { rows: 6, width: 2 * S::F32_LANES },
                }
            }
        }
        arch.dispatch(Ask)
    }

    /// The largest number of rows in a panel.
    pub(crate) fn max_rows(&self) -> usize {
        self.rows.max(SMALL)
    }

    /// How many rows each panel holds of a factor of `rows` rows: tall ones, and as many small ones as it takes to come
    /// out even; else small ones only, the last of them not full.
    fn split(&self, rows: usize) -> Vec<usize> {
        for small in 0..=rows / SMALL {
            let rest = rows - small * SMALL;
            if rest.is_multiple_of(self.rows) {
                return [vec![self.rows; rest / self.rows], vec![SMALL; small]].concat();
            }
        }
        vec![SMALL; rows.div_ceil(SMALL)]
    }
}

/// A left factor packed for [`Product`]: panels of some rows each, a panel as (depth, rows), zeros where the last one is
/// not full.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    values: Vec<f32>,
    heights: Vec<usize>,
    rows: usize,
    depth: usize,
}

/// A panel: its first row, how many rows it holds (and how many of them are real), and its values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) height: usize,
    values: &'a [f32],
}

impl Panels {
    /// Packs a (rows, depth) factor, given as a function of its indices.
    pub(crate) fn pack(tile: Tile, rows: usize, depth: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let heights = tile.split(rows);
        let mut values = Vec::with_capacity(heights.iter().sum::<usize>() * depth);
        let mut first = 0;
        for &height in &heights {
            for k in 0..depth {
                values.extend((first..first + height).map(|m| if m < rows { value(m, k) } else { 0.0 }));
            }
            first += height;
        }
        Self { values, heights, rows, depth }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Panel<'_>> {
        self.heights.iter().scan(0, |first, &height| {
            let values = &self.values[*first * self.depth..][..height * self.depth];
            let panel = Panel { first: *first, rows: height.min(self.rows - *first), height, values };
            *first += height;
            Some(panel)
        })
    }
}

/// out[m][i] += Σ_k panel[k][m] · planes[offsets[k] + i] for i below `len`, a multiple of [`Tile::width`]; `out` is
/// (rows of the panel, len).
pub(crate) struct Product<'a> {
    pub(crate) panel: Panel<'a>,
    pub(crate) offsets: &'a [usize],
    pub(crate) planes: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) len: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::REGISTER_COUNT, self.panel.height) {
            (32.., 8) => self.run::<S, 8, 3>(simd),
            (32.., _) => self.run::<S, SMALL, 3>(simd),
            (_, 6) => self.run::<S, 6, 2>(simd),
            _ => self.run::<S, SMALL, 2>(simd),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        for (panel, offsets) in self.panel.values.chunks(DEPTH * ROWS).zip(self.offsets.chunks(DEPTH)) {
            for i in (0..self.len).step_by(width) {
                let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
                for (column, &offset) in panel.chunks_exact(ROWS).zip(offsets) {
                    let (b, _) = S::as_simd_f32s(&self.planes[offset + i..offset + i + width]);
                    let b: &[S::f32s; VECTORS] = b.first_chunk().expect("as wide as the tile");
                    for m in 0..ROWS {
                        let a = simd.splat_f32s(column[m]);
                        for v in 0..VECTORS {
                            sums[m][v] = simd.mul_add_f32s(a, b[v], sums[m][v]);
                        }
                    }
                }
                for (row, sum) in self.out.chunks_exact_mut(self.len).zip(sums) {
                    let (to, _) = S::as_mut_simd_f32s(&mut row[i..i + width]);
                    for (t, s) in to.iter_mut().zip(sum) {
                        *t = simd.add_f32s(*t, s);
                    }
                }
            }
        }
    }
}

/// Rows of the left and of the right factor in a register tile of [`Correlation`].
const DOTS: (usize, usize) = (4, 3);

/// out[o][k] += Σ_i y[o·plane + i] · x[offsets[k] + i] for i below `plane`, a multiple of the vector's length.
pub(crate) struct Correlation<'a> {
    pub(crate) y: &'a [f32],
    pub(crate) plane: usize,
    pub(crate) x: &'a [f32],
    pub(crate) offsets: &'a [usize],
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let depth = self.offsets.len();
        let len = self.plane;
        for (block, out) in self.out.chunks_mut(DOTS.0 * depth).enumerate() {
            let rows = out.len() / depth;
            let y: [&[f32]; DOTS.0] =
                from_fn(|m| &self.y[(block * DOTS.0 + m.min(rows - 1)) * self.plane..][..len]);
            for (first, offsets) in self.offsets.chunks(DOTS.1).enumerate().map(|(b, o)| (b * DOTS.1, o)) {
                let x: [&[f32]; DOTS.1] = from_fn(|k| &self.x[offsets[k.min(offsets.len() - 1)]..][..len]);
                let sums = dots(simd, y, x);
                for (row, sums) in out.chunks_exact_mut(depth).zip(sums) {
                    for (slot, sum) in row[first..].iter_mut().zip(sums).take(offsets.len()) {
                        *slot += sum;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn dots<S: Simd>(simd: S, y: [&[f32]; DOTS.0], x: [&[f32]; DOTS.1]) -> [[f32; DOTS.1]; DOTS.0] {
    let mut sums = [[simd.splat_f32s(0.0); DOTS.1]; DOTS.0];
    // Named one by one, so that all of it is inlined into code for this processor's vectors.
    let [y0, y1, y2, y3] = [vectors::<S>(y[0]), vectors::<S>(y[1]), vectors::<S>(y[2]), vectors::<S>(y[3])];
    let [x0, x1, x2] = [vectors::<S>(x[0]), vectors::<S>(x[1]), vectors::<S>(x[2])];
    let ys = y0.iter().zip(y1).zip(y2).zip(y3);
    let xs = x0.iter().zip(x1).zip(x2);
    for ((((&y0, &y1), &y2), &y3), ((&x0, &x1), &x2)) in ys.zip(xs) {
        for (sum, y) in sums.iter_mut().zip([y0, y1, y2, y3]) {
            sum[0] = simd.mul_add_f32s(y, x0, sum[0]);
            sum[1] = simd.mul_add_f32s(y, x1, sum[1]);
            sum[2] = simd.mul_add_f32s(y, x2, sum[2]);
        }
    }
    let mut out = [[0.0; DOTS.1]; DOTS.0];
    for (out, sum) in out.iter_mut().zip(sums) {
        for (out, sum) in out.iter_mut().zip(sum) {
            *out = simd.reduce_sum_f32s(sum);
        }
    }
    out
}

#[inline(always)]
fn vectors<S: Simd>(values: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(values).0
}
