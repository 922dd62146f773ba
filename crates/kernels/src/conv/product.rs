//! The two matrix products that a convolution is made of, in registers of whatever vectors the processor has.

use pulp::{Arch, Simd, WithSimd};
use std::array::from_fn;

/// Vectors side by side in a register tile.
const VECTORS: usize = 3;
/// Rows of the left factor that are summed over before the next block, so that a panel stays in the first cache.
const DEPTH: usize = 768;

/// The register tile of this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Rows of the left factor at a time: 8 with 32 vector registers, else 4.
    pub(crate) rows: usize,
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
                Tile { rows: if S::REGISTER_COUNT >= 32 { 8 } else { 4 }, width: VECTORS * S::F32_LANES }
            }
        }
        arch.dispatch(Ask)
    }
}

/// A left factor packed for [`Product`]: panels of [`Tile::rows`] rows, each panel as (depth, rows), zeros where the
/// last panel has fewer.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    values: Vec<f32>,
    rows: usize,
    depth: usize,
}

impl Panels {
    /// Packs a (rows, depth) factor, given as a function of its indices.
    pub(crate) fn pack(tile: Tile, rows: usize, depth: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let mut values = vec![0.0; rows.div_ceil(tile.rows) * tile.rows * depth];
        for (p, panel) in values.chunks_exact_mut(tile.rows * depth).enumerate() {
            for (k, column) in panel.chunks_exact_mut(tile.rows).enumerate() {
                for (m, slot) in column.iter_mut().enumerate().take(rows - p * tile.rows) {
                    *slot = value(p * tile.rows + m, k);
                }
            }
        }
        Self { values, rows: tile.rows, depth }
    }

    /// Panel `p`, which holds rows `p·Tile::rows` onwards.
    pub(crate) fn panel(&self, p: usize) -> &[f32] {
        let size = self.rows * self.depth;
        &self.values[p * size..][..size]
    }

    /// How many panels there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len() / (self.rows * self.depth).max(1)
    }
}

/// out[m][i] += Σ_k panel[k][m] · planes[offsets[k] + i] for i below `len`, a multiple of [`Tile::width`]; `out` is
/// (rows, len).
pub(crate) struct Product<'a> {
    pub(crate) panel: &'a [f32],
    pub(crate) offsets: &'a [usize],
    pub(crate) planes: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) len: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, 8>(simd) } else { self.run::<S, 4>(simd) }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        for (panel, offsets) in self.panel.chunks(DEPTH * ROWS).zip(self.offsets.chunks(DEPTH)) {
            for i in (0..self.len).step_by(width) {
                let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
                for (column, &offset) in panel.chunks_exact(ROWS).zip(offsets) {
                    let (b, _) = S::as_simd_f32s(&self.planes[offset + i..offset + i + width]);
                    let b: [S::f32s; VECTORS] = from_fn(|v| b[v]);
                    for (sum, &a) in sums.iter_mut().zip(column) {
                        let a = simd.splat_f32s(a);
                        for v in 0..VECTORS {
                            sum[v] = simd.mul_add_f32s(a, b[v], sum[v]);
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
    let y = y.map(|row| S::as_simd_f32s(row).0);
    let x = x.map(|row| S::as_simd_f32s(row).0);
    let steps = y[0].len();
    let (y, x) = (y.map(|row| &row[..steps]), x.map(|row| &row[..steps]));
    let mut sums = [[simd.splat_f32s(0.0); DOTS.1]; DOTS.0];
    for i in 0..steps {
        let b: [S::f32s; DOTS.1] = from_fn(|k| x[k][i]);
        for (sum, row) in sums.iter_mut().zip(y) {
            for (s, &b) in sum.iter_mut().zip(&b) {
                *s = simd.mul_add_f32s(row[i], b, *s);
            }
        }
    }
    sums.map(|row| row.map(|s| simd.reduce_sum_f32s(s)))
}
