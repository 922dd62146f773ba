//! The gradient of a convolution's weights.

use super::plan::{Phase, Plan, Tap};
use super::product::vectors;
use crate::maps::{LANES, across};
use pulp::{Simd, WithSimd};
use std::borrow::Cow;

/// Output channels that a task sums for.
pub(crate) const TILE: usize = 4;

/// About how many pixels are summed for all weights before the next: their gradients stay in the caches.
const PIXELS: usize = 256;

/// Maps (pixels of all blocks, channels, 16) as tiles of [`TILE`] channels, the last one filled up with zeros.
pub(crate) struct Tiles<'a> {
    values: Cow<'a, [f32]>,
    /// How far, in lanes, one tile is from the next, and one pixel.
    tile: usize,
    pixel: usize,
}

impl<'a> Tiles<'a> {
    /// Pixels of many channels are copied, a tile's side by side: the numbers of a tile would lie apart by a multiple of
    /// the cache's period, and drive each other out of it.
    pub(crate) fn new(maps: &'a [f32], channels: usize) -> Self {
        if channels.is_multiple_of(TILE) && channels <= MOST_IN_PLACE {
            return Self { values: Cow::Borrowed(maps), tile: TILE, pixel: channels };
        }
        let pixels = maps.len() / (channels * LANES);
        let tile = pixels * TILE;
        let mut values = Vec::with_capacity(channels.div_ceil(TILE) * tile * LANES);
        for from in (0..channels).step_by(TILE) {
            let to = (from + TILE).min(channels);
            for pixel in maps.chunks_exact(channels * LANES) {
                values.extend_from_slice(&pixel[from * LANES..to * LANES]);
                values.extend(std::iter::repeat_n(0.0, (from + TILE - to) * LANES));
            }
        }
        Self { values: Cow::Owned(values), tile, pixel: TILE }
    }

    #[inline(always)]
    fn tile<S: Simd, const V: usize>(&self, tile: usize) -> &[[S::f32s; V]] {
        &vectors::<S, V>(&self.values)[tile * self.tile..]
    }
}

/// The most channels whose pixels need no copying.
const MOST_IN_PLACE: usize = 32;

/// Sums over all images and pixels of grad·x for each weight of the output channels of tile `tile`: `out` is (channels,
/// input channels, places in the kernel), and holds zeros.
pub(crate) struct WeightGradient<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) blocks: usize,
    pub(crate) input: &'a Tiles<'a>,
    pub(crate) grad: &'a Tiles<'a>,
    pub(crate) tile: usize,
    pub(crate) out: &'a mut [f32],
    pub(crate) places: usize,
}

/// Of one tap: sums for `D` input channels and [`TILE`] output channels, each of `V` vectors.
type Sums<F, const V: usize, const D: usize> = [[[F; TILE]; D]; V];

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    /// Input channels at a time, such that the sums of three taps in a row, or of the only one, leave room in the vector
    /// registers for what they are made of.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::F32_LANES, self.places) {
            (16, 1) => self.run::<S, 1, 4>(simd),
            (16, _) => self.run::<S, 1, 2>(simd),
            (8, 1) => self.run::<S, 2, 2>(simd),
            (8, _) => self.run::<S, 2, 1>(simd),
            (4, _) => self.run::<S, 4, 2>(simd),
            _ => self.run::<S, LANES, 1>(simd),
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const D: usize>(self, simd: S) {
        let Self { plan, blocks, places, .. } = self;
        let depth = plan.input.channels;
        let taps = plan.taps();
        let mut sums = vec![[[[simd.splat_f32s(0.0); TILE]; D]; V]; depth.div_ceil(D) * taps];
        let mut at = 0;
        for phase in &plan.phases {
            let of_phase = at..at + phase.taps.len();
            at = of_phase.end;
            let (rows, columns) = plan.grid(phase);
            let few = PIXELS.div_ceil(columns.max(1));
            for first in (0..blocks * rows).step_by(few) {
                let rows = first..(first + few).min(blocks * rows);
                for (i, sums) in sums.chunks_exact_mut(taps).enumerate() {
                    self.phase::<S, V, D>(simd, &mut sums[of_phase.clone()], phase, rows.clone(), i * D);
                }
            }
        }
        for (i, sums) in sums.chunks_exact(taps).enumerate() {
            let taps = plan.phases.iter().flat_map(|phase| &phase.taps);
            for (sums, tap) in sums.iter().zip(taps) {
                for d in i * D..((i + 1) * D).min(depth) {
                    for (o, out) in self.out.chunks_exact_mut(depth * places).enumerate() {
                        let mut lanes = [0.0; LANES];
                        for v in 0..V {
                            S::as_mut_simd_f32s(&mut lanes).0[v] = sums[v][d - i * D][o];
                        }
                        let sum = across(lanes);
                        for &place in &tap.places {
                            out[d * places + place] += sum;
                        }
                    }
                }
            }
        }
    }

    /// Adds up some of the rows of all blocks, for all taps of a phase.
    #[inline(always)]
    fn phase<S: Simd, const V: usize, const D: usize>(
        &self,
        simd: S,
        mut sums: &mut [Sums<S::f32s, V, D>],
        phase: &Phase,
        rows: std::ops::Range<usize>,
        d: usize,
    ) {
        for line in phase.taps.chunk_by(|a, b| a.offset.0 == b.offset.0) {
            for taps in line.chunks(3) {
                let (these, rest) = sums.split_at_mut(taps.len());
                match taps.len() {
                    3 => self.row_of_taps::<S, V, 3, D>(simd, these, phase, taps, rows.clone(), d),
                    2 => self.row_of_taps::<S, V, 2, D>(simd, these, phase, taps, rows.clone(), d),
                    _ => self.row_of_taps::<S, V, 1, D>(simd, these, phase, taps, rows.clone(), d),
                }
                sums = rest;
            }
        }
    }

    /// The same for `T` taps that lie in a row.
    #[inline(always)]
    fn row_of_taps<S: Simd, const V: usize, const T: usize, const D: usize>(
        &self,
        simd: S,
        sums: &mut [Sums<S::f32s, V, D>],
        phase: &Phase,
        taps: &[Tap],
        rows: std::ops::Range<usize>,
        d: usize,
    ) {
        let Self { plan, input: Tiles { pixel: in_step, .. }, grad: Tiles { pixel: out_step, .. }, .. } =
            *self;
        let input = &self.input.tile::<S, V>(d / TILE)[d % TILE..];
        let grad = self.grad.tile::<S, V>(self.tile);
        let (of_block, columns) = plan.grid(phase);
        // Where each tap has a pixel, and where all have.
        let mut exists = [(0, 0); T];
        let (mut from, mut to) = (0, columns);
        for t in 0..T {
            exists[t] = plan.columns(0, columns, &taps[t]);
            from = from.max(exists[t].0);
            to = to.min(exists[t].1);
        }
        for v in 0..V {
            let mut local = [[[simd.splat_f32s(0.0); TILE]; D]; T];
            for t in 0..T {
                local[t] = sums[t][v];
            }
            for row in rows.clone() {
                let (block, y) = (row / of_block, row % of_block);
                let Some(row) = plan.input_row(y, &taps[0]) else { continue };
                let out_row = block * plan.output.height + phase.origin.0 + y * plan.out_step;
                let in_row = block * plan.input.height + row;
                for x in 0..columns {
                    let out_pixel = out_row * plan.output.width + phase.origin.1 + x * plan.out_step;
                    let g = &grad[out_pixel * out_step..][..TILE];
                    let all = (from..to).contains(&x);
                    for t in 0..T {
                        if !all && !(exists[t].0..exists[t].1).contains(&x) {
                            continue;
                        }
                        let column = (x * plan.in_step) as isize + taps[t].offset.1;
                        let in_pixel = in_row * plan.input.width + column as usize;
                        let x = &input[in_pixel * in_step..][..D];
                        for q in 0..D {
                            for o in 0..TILE {
                                local[t][q][o] = simd.mul_add_f32s(g[o][v], x[q][v], local[t][q][o]);
                            }
                        }
                    }
                }
            }
            for t in 0..T {
                sums[t][v] = local[t];
            }
        }
    }
}
