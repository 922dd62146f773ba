//! Kernels and points: G g Gᵀ on the way to a product, Gᵀ U G on the way back from a gradient.

use super::{CHUNK, PANEL, PATCH, POINTS};
use crate::maps::{LANES, Lanes};
use pulp::{Simd, WithSimd};

/// The kernels of a convolution as they are given: that of an output channel and an input channel begins at `row` and
/// `depth` times their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) row: usize,
    pub(crate) depths: usize,
    pub(crate) depth: usize,
    /// Whether the nine weights are taken from the last to the first.
    pub(crate) flipped: bool,
}

impl Kernels<'_> {
    /// Vectors that a panel's transformed kernels take: (chunks of input channels, points, 16 input channels, 8 output
    /// channels).
    pub(super) fn panel(&self) -> usize {
        self.depths.div_ceil(CHUNK) * POINTS * PANEL
    }

    pub(super) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Transforms the kernels of some panels from `first` on: G g Gᵀ.
    pub(super) fn transform(&self, first: usize, out: &mut [Lanes]) {
        let arch = crate::process::arch();
        for (i, out) in out.chunks_exact_mut(self.panel()).enumerate() {
            arch.dispatch(TransformKernels { kernels: self, panel: first + i, out });
        }
    }
}

/// Transforms a panel's kernels.
struct TransformKernels<'a> {
    kernels: &'a Kernels<'a>,
    panel: usize,
    out: &'a mut [Lanes],
}

impl WithSimd for TransformKernels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { kernels, panel, out } = self;
        let rows = panel * PANEL..((panel + 1) * PANEL).min(kernels.rows);
        let out = out.as_flattened_mut().as_chunks_mut::<PANEL>().0;
        for d in 0..kernels.depths {
            let mut g = [[[0.0; PANEL]; 3]; 3];
            for (r, row) in rows.clone().enumerate() {
                let kernel: &[f32; 9] =
                    kernels.values[row * kernels.row + d * kernels.depth..][..9].try_into().expect("nine");
                for place in 0..9 {
                    let from = if kernels.flipped { 8 - place } else { place };
                    g[place / 3][place % 3][r] = kernel[from];
                }
            }
            let mut half = [[[0.0; PANEL]; 3]; PATCH];
            for j in 0..3 {
                let column = kernel_line([g[0][j], g[1][j], g[2][j]]);
                for i in 0..PATCH {
                    half[i][j] = column[i];
                }
            }
            let chunk = &mut out[d / CHUNK * POINTS * CHUNK..][..POINTS * CHUNK];
            for i in 0..PATCH {
                for (j, value) in kernel_line(half[i]).into_iter().enumerate() {
                    chunk[(i * PATCH + j) * CHUNK + d % CHUNK] = value;
                }
            }
        }
    }
}

/// A sixth, a twelfth and a twenty-fourth: products, since a processor divides slowly.
const SIXTH: f32 = 1.0 / 6.0;
const TWELFTH: f32 = 1.0 / 12.0;
const TWENTY_FOURTH: f32 = 1.0 / 24.0;

/// G, for eight kernels.
#[inline(always)]
fn kernel_line(g: [[f32; PANEL]; 3]) -> [[f32; PANEL]; PATCH] {
    let mut out = [[0.0; PANEL]; PATCH];
    for r in 0..PANEL {
        let even = (g[0][r] + g[2][r]) * -SIXTH;
        let even_2 = (g[0][r] + 4.0 * g[2][r]) * TWENTY_FOURTH;
        let (odd, odd_2) = (g[1][r] * SIXTH, g[1][r] * TWELFTH);
        out[0][r] = g[0][r] * 0.25;
        out[1][r] = even - odd;
        out[2][r] = even + odd;
        out[3][r] = even_2 + odd_2;
        out[4][r] = even_2 - odd_2;
        out[5][r] = g[2][r];
    }
    out
}

/// From sums at the points (points, rows, columns) to the gradients of one output channel's kernels: Gᵀ U G.
pub(super) struct BackToKernels<'a> {
    pub(super) sums: &'a [f32],
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) out: &'a mut [f32],
}

impl WithSimd for BackToKernels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { sums, row, rows, columns, out } = self;
        for (chunk, out) in out.chunks_mut(CHUNK * 9).enumerate() {
            let point = |i: usize, j: usize| -> Lanes {
                let at = ((i * PATCH + j) * rows + row) * columns + chunk * CHUNK;
                sums[at..at + CHUNK].try_into().expect("a chunk")
            };
            let mut half = [[[0.0; LANES]; PATCH]; 3];
            for j in 0..PATCH {
                let column = back_line(std::array::from_fn(|i| point(i, j)));
                for i in 0..3 {
                    half[i][j] = column[i];
                }
            }
            for i in 0..3 {
                for (j, values) in back_line(half[i]).into_iter().enumerate() {
                    for (out, value) in out.chunks_exact_mut(9).zip(values) {
                        out[i * 3 + j] = value;
                    }
                }
            }
        }
    }
}

/// Gᵀ, for sixteen kernels.
#[inline(always)]
fn back_line(u: [Lanes; PATCH]) -> [Lanes; 3] {
    let mut out = [[0.0; LANES]; 3];
    for i in 0..LANES {
        let (even, odd) = ((u[1][i] + u[2][i]) * SIXTH, (u[2][i] - u[1][i]) * SIXTH);
        let (even_2, odd_2) = ((u[3][i] + u[4][i]) * TWENTY_FOURTH, (u[3][i] - u[4][i]) * TWELFTH);
        out[0][i] = u[0][i] * 0.25 - even + even_2;
        out[1][i] = odd + odd_2;
        out[2][i] = 4.0 * even_2 - even + u[5][i];
    }
    out
}
