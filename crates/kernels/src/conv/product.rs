//! The product of weights and pixels, in registers of whatever vectors the processor has.

use super::plan::{Phase, Plan};
use crate::maps::LANES;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows of a tall panel and of a small one.
const TALL: usize = 6;
const SMALL: usize = 4;

/// The weights of a phase, packed as they are read: panels of output channels, a panel as (taps, depth, rows), zeros
/// where the last one is not full.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    values: Vec<f32>,
    heights: Vec<usize>,
    rows: usize,
    depth: usize,
}

/// How many rows each panel holds of `rows`: tall ones, and as many small ones as it takes to come out even; else small
/// ones only, the last of them not full.
fn heights(rows: usize) -> Vec<usize> {
    for small in 0..=rows / SMALL {
        let rest = rows - small * SMALL;
        if rest.is_multiple_of(TALL) {
            return [vec![TALL; rest / TALL], vec![SMALL; small]].concat();
        }
    }
    vec![SMALL; rows.div_ceil(SMALL)]
}

impl Panels {
    /// Packs the weights of `phase`: `rows` output channels by `depth` input channels; `kernel`(row, depth) are the
    /// weights of one pair of channels, by their place in the kernel.
    pub(crate) fn pack<'a>(
        phase: &Phase,
        rows: usize,
        depth: usize,
        kernel: impl Fn(usize, usize) -> &'a [f32],
    ) -> Self {
        let heights = heights(rows);
        let total: usize = heights.iter().sum();
        let mut values = vec![0.0; total * depth * phase.taps.len()];
        let mut first = 0;
        for &height in &heights {
            let panel = &mut values[first * depth * phase.taps.len()..][..height * depth * phase.taps.len()];
            for (tap, panel) in phase.taps.iter().zip(panel.chunks_exact_mut(height * depth)) {
                for (d, column) in panel.chunks_exact_mut(height).enumerate() {
                    for (row, value) in (first..rows).zip(column) {
                        let weights = kernel(row, d);
                        *value = weights[tap.places[0]];
                        for &place in &tap.places[1..] {
                            *value += weights[place];
                        }
                    }
                }
            }
            first += height;
        }
        Self { values, heights, rows, depth }
    }
}

/// One phase of a plan for some rows of one block of images: its pixels of `out` (rows, width, channels, 16) become
/// `shift` (channels, 16) plus the sums over the taps.
pub(crate) struct Product<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) phase: &'a Phase,
    pub(crate) panels: &'a Panels,
    pub(crate) shift: &'a [f32],
    /// Rows of the output.
    pub(crate) rows: Range<usize>,
    pub(crate) input: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    /// A tile is some pixels in a row by some output channels, such that sums, pixels and one weight fill the vector
    /// registers: 32 of 16 numbers, 16 of 8, or 32 of 4.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 1, 4>(simd),
            8 => self.run::<S, 2, 1>(simd),
            4 => self.run::<S, 4, 1>(simd),
            _ => self.run::<S, LANES, 1>(simd),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const P: usize>(mut self, simd: S) {
        let (_, columns) = self.plan.grid(self.phase);
        let panels = self.panels;
        for y in self.plan.grid_rows(self.phase, &self.rows) {
            for x in (0..columns).step_by(P) {
                let width = P.min(columns - x);
                let (mut first, mut at) = (0, 0);
                for &height in &panels.heights {
                    let weights = &panels.values[at..at + height * panels.depth * self.phase.taps.len()];
                    match height {
                        TALL => self.tile::<S, V, P, TALL>(simd, y, x, width, first, weights),
                        _ => self.tile::<S, V, P, SMALL>(simd, y, x, width, first, weights),
                    }
                    first += height;
                    at += weights.len();
                }
            }
        }
    }

    /// The pixels `x` to `x + width` of row `y`, channels from `first` on.
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const P: usize, const R: usize>(
        &mut self,
        simd: S,
        y: usize,
        x: usize,
        width: usize,
        first: usize,
        weights: &[f32],
    ) {
        let Self { plan, phase, panels, shift, input, .. } = *self;
        let depth = panels.depth;
        let real = R.min(panels.rows - first);
        let mut sums = [[[simd.splat_f32s(0.0); V]; P]; R];
        let shift = vectors::<S, V>(&shift[first * LANES..(first + real) * LANES]);
        for r in 0..R {
            for p in 0..P {
                if r < real {
                    sums[r][p] = shift[r];
                }
            }
        }
        for (tap, weights) in phase.taps.iter().zip(weights.chunks_exact(depth * R)) {
            let Some(row) = plan.input_row(y, tap) else { continue };
            let (from, to) = plan.columns(x, x + width, tap);
            if from == to {
                continue;
            }
            let weights = &weights.as_chunks::<R>().0[..depth];
            let mut pixels: [&[[S::f32s; V]]; P] = [&[]; P];
            for p in 0..P {
                // Pixels that do not exist are not read; any will do.
                let column = ((x + p.clamp(from, to - 1)) * plan.in_step) as isize + tap.offset.1;
                let pixel = row * plan.input.width + column as usize;
                pixels[p] = &vectors::<S, V>(&input[pixel * depth * LANES..][..depth * LANES])[..depth];
            }
            match (from, to) {
                (0, 4) => accumulate::<S, V, P, R, 0, 4>(simd, &mut sums, weights, &pixels),
                (1, 4) => accumulate::<S, V, P, R, 1, 4>(simd, &mut sums, weights, &pixels),
                (0, 3) => accumulate::<S, V, P, R, 0, 3>(simd, &mut sums, weights, &pixels),
                (0, 2) => accumulate::<S, V, P, R, 0, 2>(simd, &mut sums, weights, &pixels),
                (2, 4) => accumulate::<S, V, P, R, 2, 4>(simd, &mut sums, weights, &pixels),
                (1, 2) => accumulate::<S, V, P, R, 1, 2>(simd, &mut sums, weights, &pixels),
                (1, 3) => accumulate::<S, V, P, R, 1, 3>(simd, &mut sums, weights, &pixels),
                (2, 3) => accumulate::<S, V, P, R, 2, 3>(simd, &mut sums, weights, &pixels),
                (3, 4) => accumulate::<S, V, P, R, 3, 4>(simd, &mut sums, weights, &pixels),
                _ => accumulate::<S, V, P, R, 0, 1>(simd, &mut sums, weights, &pixels),
            }
        }
        let channels = panels.rows;
        for p in 0..P {
            if p < width {
                let row = phase.origin.0 + y * plan.out_step - self.rows.start;
                let column = phase.origin.1 + (x + p) * plan.out_step;
                let pixel = (row * plan.output.width + column) * channels + first;
                let out = vectors_mut::<S, V>(&mut self.out[pixel * LANES..(pixel + real) * LANES]);
                for r in 0..R {
                    if r < real {
                        out[r] = sums[r][p];
                    }
                }
            }
        }
    }
}

/// Adds weights times pixels to the sums, for the pixels `FROM` to `TO` of the tile.
#[inline(always)]
fn accumulate<S: Simd, const V: usize, const P: usize, const R: usize, const FROM: usize, const TO: usize>(
    simd: S,
    sums: &mut [[[S::f32s; V]; P]; R],
    weights: &[[f32; R]],
    pixels: &[&[[S::f32s; V]]; P],
) {
    let mut local = *sums;
    let depth = weights.len();
    let mut lanes: [&[[S::f32s; V]]; P] = [&[]; P];
    for p in 0..P {
        lanes[p] = &pixels[p][..depth];
    }
    for d in 0..depth {
        for r in 0..R {
            let weight = simd.splat_f32s(weights[d][r]);
            for p in FROM..TO {
                if p < P {
                    for v in 0..V {
                        local[r][p][v] = simd.mul_add_f32s(weight, lanes[p][d][v], local[r][p][v]);
                    }
                }
            }
        }
    }
    *sums = local;
}

/// Numbers as groups of `V` vectors, one group for each sixteen.
#[inline(always)]
pub(crate) fn vectors<S: Simd, const V: usize>(values: &[f32]) -> &[[S::f32s; V]] {
    S::as_simd_f32s(values).0.as_chunks::<V>().0
}

#[inline(always)]
pub(crate) fn vectors_mut<S: Simd, const V: usize>(values: &mut [f32]) -> &mut [[S::f32s; V]] {
    S::as_mut_simd_f32s(values).0.as_chunks_mut::<V>().0
}
