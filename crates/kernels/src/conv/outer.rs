//! Sums of outer products, which gradients of weights are made of.

use super::plan::Size;
use super::product::{vectors, vectors_mut};
use crate::maps::{Aligned, LANES, Lanes};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Channels whose numbers lie together.
pub(super) const CHUNK: usize = 16;

/// Rows that a task sums.
pub(super) const ROWS: usize = 16;

/// Vectors of numbers: the i-th of an entry is at its offset + i / [`CHUNK`] · `chunk` + i % [`CHUNK`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) lanes: &'a [Lanes],
    pub(super) chunk: usize,
}

/// An entry's offsets in the two operands.
pub(super) type Pair = (usize, usize);

/// Adds Σ g\[row\]\[image\]·x\[column\]\[image\] over the images of each pair of entries to the sum of every row and column.
///
/// `sums` is (groups, rows, columns), rows a multiple of [`ROWS`] of which `rows` are real, columns one of [`CHUNK`];
/// `pairs` are those of each group. `g` holds a vector of images for each row; `x`, the other way round, a vector of
/// columns for each image.
pub(super) fn accumulate(
    sums: &mut [f32],
    (rows, columns): (usize, usize),
    g: Operand,
    x: Operand,
    pairs: &[Vec<Pair>],
) {
    let arch = crate::process::arch();
    let tasks = rows.div_ceil(ROWS);
    sums.par_chunks_mut(ROWS * columns).enumerate().for_each(|(task, sums)| {
        let (pairs, row) = (&pairs[task / tasks], task % tasks * ROWS);
        arch.dispatch(Outer { sums, columns, g, x, pairs, row, rows: ROWS.min(rows - row) });
    });
}

struct Outer<'a> {
    sums: &'a mut [f32],
    columns: usize,
    g: Operand<'a>,
    x: Operand<'a>,
    pairs: &'a [Pair],
    row: usize,
    rows: usize,
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 if self.columns == CHUNK => self.run::<S, 1, 1, 16>(simd),
            16 => self.run::<S, 1, 2, 8>(simd),
            8 => self.run::<S, 2, 1, 4>(simd),
            4 => self.run::<S, 4, 1, 4>(simd),
            _ => self.run::<S, LANES, 1, 1>(simd),
        }
    }
}

impl Outer<'_> {
    /// `R` rows by `Q` chunks of columns at a time, each chunk `V` vectors.
    #[inline(always)]
    fn run<S: Simd, const V: usize, const Q: usize, const R: usize>(mut self, simd: S) {
        let chunks = self.columns / CHUNK;
        let mut row = 0;
        while row < self.rows {
            let whole = row + R <= self.rows;
            for chunk in (0..chunks).step_by(Q) {
                match (whole, chunk + Q <= chunks) {
                    (true, true) => self.tile::<S, V, Q, R>(simd, row, chunk),
                    (true, false) => self.tile::<S, V, 1, R>(simd, row, chunk),
                    (false, true) => self.tile::<S, V, Q, 1>(simd, row, chunk),
                    (false, false) => self.tile::<S, V, 1, 1>(simd, row, chunk),
                }
            }
            row += if whole { R } else { 1 };
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const V: usize, const Q: usize, const R: usize>(
        &mut self,
        simd: S,
        row: usize,
        chunk: usize,
    ) {
        let Self { g, x, pairs, .. } = *self;
        let line = self.row + row;
        let first = line / CHUNK * g.chunk + line % CHUNK;
        let x_vectors = vectors::<S, V>(x.lanes.as_flattened());
        let mut local = [[[simd.splat_f32s(0.0); V]; Q]; R];
        for &(g_entry, x_entry) in pairs {
            let g: &[Lanes; R] = g.lanes[g_entry + first..][..R].try_into().expect("R lanes");
            let mut columns: [&[[S::f32s; V]]; Q] = [&[]; Q];
            for q in 0..Q {
                columns[q] = &x_vectors[x_entry + (chunk + q) * x.chunk..][..LANES];
            }
            for image in 0..LANES {
                for r in 0..R {
                    let g = simd.splat_f32s(g[r][image]);
                    for q in 0..Q {
                        for v in 0..V {
                            local[r][q][v] = simd.mul_add_f32s(g, columns[q][image][v], local[r][q][v]);
                        }
                    }
                }
            }
        }
        for r in 0..R {
            let sums = &mut self.sums[(row + r) * self.columns + chunk * CHUNK..][..Q * CHUNK];
            let sums = vectors_mut::<S, V>(sums);
            for q in 0..Q {
                for v in 0..V {
                    sums[q][v] = simd.add_f32s(sums[q][v], local[r][q][v]);
                }
            }
        }
    }
}

/// Sixteen vectors the other way round: number i of vector j becomes number j of vector i.
#[inline(always)]
fn transpose(from: &[Lanes; CHUNK], to: &mut [Lanes; CHUNK]) {
    let (mut a, mut b) = (Aligned([[0.0; LANES]; CHUNK]), Aligned([[0.0; LANES]; CHUNK]));
    shuffle(from, &mut a.0);
    shuffle(&a.0, &mut b.0);
    shuffle(&b.0, &mut a.0);
    shuffle(&a.0, to);
}

/// Numbers of vectors i and i + 8 in turn, for each i: after four times, each number has changed about its vector and its
/// place in it.
#[inline(always)]
fn shuffle(from: &[Lanes; CHUNK], to: &mut [Lanes; CHUNK]) {
    for i in 0..8 {
        for k in 0..8 {
            to[2 * i][2 * k] = from[i][k];
            to[2 * i][2 * k + 1] = from[i + 8][k];
            to[2 * i + 1][2 * k] = from[i][k + 8];
            to[2 * i + 1][2 * k + 1] = from[i + 8][k + 8];
        }
    }
}

/// Rows of some blocks of maps of this size, with channels and images changed about: (blocks, rows, width, chunks, 16
/// images, 16 channels).
pub(super) fn transpose_rows(
    size: Size,
    lanes: &[Lanes],
    blocks: Range<usize>,
    rows: Range<usize>,
    out: &mut [Lanes],
) {
    let Size { height, width, channels } = size;
    let arch = crate::process::arch();
    out.par_chunks_mut(width * channels.next_multiple_of(CHUNK)).enumerate().for_each(|(i, out)| {
        let (block, row) = (blocks.start + i / rows.len(), rows.start + i % rows.len());
        let row = &lanes[(block * height + row) * width * channels..][..width * channels];
        arch.dispatch(Transpose { row, channels, out });
    });
}

struct Transpose<'a> {
    row: &'a [Lanes],
    channels: usize,
    out: &'a mut [Lanes],
}

impl WithSimd for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { row, channels, out } = self;
        let pixels = row.chunks_exact(channels);
        for (pixel, out) in pixels.zip(out.chunks_exact_mut(channels.next_multiple_of(CHUNK))) {
            let (whole, rest) = pixel.as_chunks::<CHUNK>();
            let out = out.as_chunks_mut::<CHUNK>().0;
            for (chunk, out) in whole.iter().zip(&mut *out) {
                transpose(chunk, out);
            }
            if let (false, Some(out)) = (rest.is_empty(), out.last_mut()) {
                let mut lines = Aligned([[0.0; LANES]; CHUNK]);
                lines.0[..rest.len()].copy_from_slice(rest);
                transpose(&lines.0, out);
            }
        }
    }
}
