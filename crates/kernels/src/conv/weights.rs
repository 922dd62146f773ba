//! The gradient of a convolution's weights.

use super::plan::{Phase, Plan, Size, Tap};
use super::product::vectors;
use crate::maps::{LANES, across};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Output channels that a task sums for.
pub(crate) const TILE: usize = 4;

/// About how many pixels are summed for all weights before the next: they stay in the first cache.
const PIXELS: usize = 64;

/// Input channels come in groups of so many, the last one filled up with zeros.
const GROUP: usize = 4;

/// A convolution's input and its output's gradient, laid out such that a weight's gradient sums products of numbers that
/// follow each other: in the maps themselves a channel's numbers lie apart by a multiple of the cache's period, and would
/// drive each other out of it.
///
/// Where the plan takes every other pixel, those pixels lie together. Rows follow each other with a few columns of zeros
/// between them, the pixels that a tap sees beside the maps: so several rows are one sum without any borders.
pub(crate) struct Operands {
    /// (channels, phases of the pixels, blocks, rows, pitch, 16), before each phase a margin of `margin` pixels.
    input: Vec<f32>,
    /// (tiles of channels, phases of the plan, blocks, rows, pitch, [`TILE`], 16).
    grad: Vec<f32>,
    blocks: usize,
    in_rows: usize,
    out_rows: usize,
    columns: usize,
    pitch: usize,
    margin: usize,
}

impl Operands {
    /// From the maps `input` and `grad` (blocks, h, w, c, 16) of a plan.
    pub(crate) fn new(plan: &Plan, input: &[f32], grad: &[f32]) -> Self {
        let (Plan { input: from, output: to, in_step, out_step, .. }, phases) = (plan, plan.phases.len());
        let (width, columns) = (from.width.div_ceil(*in_step), to.width.div_ceil(*out_step));
        // Columns that taps see left and right of the maps.
        let beside = |tap: &Tap| {
            let shift = tap.offset.1.div_euclid(*in_step as isize);
            (-shift).max(columns as isize + shift - width as isize).max(0) as usize
        };
        let margin = plan.phases.iter().flat_map(|phase| &phase.taps).map(beside).max().unwrap_or(0);
        let mut operands = Self {
            input: vec![],
            grad: vec![],
            blocks: input.len() / (from.pixels() * from.channels * LANES),
            in_rows: from.height.div_ceil(*in_step),
            out_rows: to.height.div_ceil(*out_step),
            columns,
            pitch: width.max(columns) + margin,
            margin,
        };
        operands.input =
            vec![0.0; from.channels.next_multiple_of(GROUP) * in_step * in_step * operands.plane() * LANES];
        operands.grad = vec![0.0; to.channels.div_ceil(TILE) * phases * operands.tile() * TILE * LANES];
        operands.fill_input(plan, input);
        operands.fill_grad(plan, grad);
        operands
    }

    /// Pixels of one phase of a channel of the input, with its margin.
    fn plane(&self) -> usize {
        self.margin + self.blocks * self.in_rows * self.pitch
    }

    /// Pixels of one phase of a tile of the gradient.
    fn tile(&self) -> usize {
        self.blocks * self.out_rows * self.pitch
    }

    fn fill_input(&mut self, plan: &Plan, maps: &[f32]) {
        let (Size { height, width, channels }, step, plane) = (plan.input, plan.in_step, self.plane());
        for (line, pixels) in maps.chunks_exact(width * channels * LANES).enumerate() {
            let (block, y) = (line / height, line % height);
            let start = self.margin + (block * self.in_rows + y / step) * self.pitch;
            for channel in 0..channels {
                for (x, pixel) in pixels.chunks_exact(channels * LANES).enumerate() {
                    let phase = y % step * step + x % step;
                    let at = (channel * step * step + phase) * plane + start + x / step;
                    self.input[at * LANES..][..LANES].copy_from_slice(&pixel[channel * LANES..][..LANES]);
                }
            }
        }
    }

    fn fill_grad(&mut self, plan: &Plan, maps: &[f32]) {
        let (Size { height, width, channels }, step, tile) = (plan.output, plan.out_step, self.tile());
        for (line, pixels) in maps.chunks_exact(width * channels * LANES).enumerate() {
            let (block, y) = (line / height, line % height);
            let start = (block * self.out_rows + y / step) * self.pitch;
            for first in (0..channels).step_by(TILE) {
                let numbers = TILE.min(channels - first) * LANES;
                for (x, pixel) in pixels.chunks_exact(channels * LANES).enumerate() {
                    let phase = plan.phase_of(y % step, x % step);
                    let at = (first / TILE * plan.phases.len() + phase) * tile + start + x / step;
                    self.grad[at * TILE * LANES..][..numbers]
                        .copy_from_slice(&pixel[first * LANES..][..numbers]);
                }
            }
        }
    }
}

/// Sums over all images and pixels of grad·x for each weight of the output channels of tile `tile`: `out` is (channels,
/// input channels, places in the kernel), and holds zeros.
pub(crate) struct WeightGradient<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) operands: &'a Operands,
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
    fn run<S: Simd, const V: usize, const D: usize>(mut self, simd: S) {
        let Self { plan, operands, .. } = self;
        let groups = plan.input.channels.div_ceil(D);
        let taps = plan.phases.iter().map(|phase| phase.taps.len()).sum();
        let zeros: Sums<_, V, D> = [[[simd.splat_f32s(0.0); TILE]; D]; V];
        let rows = (PIXELS / operands.pitch).clamp(1, operands.out_rows);
        let blocks = (PIXELS / (rows * operands.pitch)).max(1);
        if rows == operands.out_rows && blocks >= operands.blocks {
            // All pixels at once: the sums need not wait for more.
            let mut sums = vec![zeros; taps];
            for group in 0..groups {
                sums.fill(zeros);
                self.add(simd, &mut sums, 0..operands.blocks, 0..rows, group * D);
                self.write::<S, V, D>(&sums, group * D);
            }
            return;
        }
        let mut sums = vec![zeros; groups * taps];
        for first_block in (0..operands.blocks).step_by(blocks) {
            let blocks = first_block..(first_block + blocks).min(operands.blocks);
            for first_row in (0..operands.out_rows).step_by(rows) {
                let rows = first_row..(first_row + rows).min(operands.out_rows);
                for (group, sums) in sums.chunks_exact_mut(taps).enumerate() {
                    self.add(simd, sums, blocks.clone(), rows.clone(), group * D);
                }
            }
        }
        for (group, sums) in sums.chunks_exact(taps).enumerate() {
            self.write::<S, V, D>(sums, group * D);
        }
    }

    /// Adds up some rows of some blocks, for all taps and `D` input channels from `d` on.
    #[inline(always)]
    fn add<S: Simd, const V: usize, const D: usize>(
        &self,
        simd: S,
        mut sums: &mut [Sums<S::f32s, V, D>],
        blocks: Range<usize>,
        rows: Range<usize>,
        d: usize,
    ) {
        for (phase, Phase { taps, .. }) in self.plan.phases.iter().enumerate() {
            for line in taps.chunk_by(|a, b| a.offset.0 == b.offset.0) {
                for taps in line.chunks(3) {
                    let (these, rest) = sums.split_at_mut(taps.len());
                    let (blocks, rows) = (blocks.clone(), rows.clone());
                    match taps.len() {
                        3 => self.row_of_taps::<S, V, 3, D>(simd, these, phase, taps, blocks, rows, d),
                        2 => self.row_of_taps::<S, V, 2, D>(simd, these, phase, taps, blocks, rows, d),
                        _ => self.row_of_taps::<S, V, 1, D>(simd, these, phase, taps, blocks, rows, d),
                    }
                    sums = rest;
                }
            }
        }
    }

    /// Adds the sums of all taps and `D` input channels from `d` on to the result.
    #[inline(always)]
    fn write<S: Simd, const V: usize, const D: usize>(&mut self, sums: &[Sums<S::f32s, V, D>], d: usize) {
        let (depth, places) = (self.plan.input.channels, self.places);
        let taps = self.plan.phases.iter().flat_map(|phase| &phase.taps);
        for (sums, tap) in sums.iter().zip(taps) {
            for q in 0..D.min(depth - d) {
                for (o, out) in self.out.chunks_exact_mut(depth * places).enumerate() {
                    let mut lanes = [0.0; LANES];
                    for v in 0..V {
                        S::as_mut_simd_f32s(&mut lanes).0[v] = sums[v][q][o];
                    }
                    let sum = across(lanes);
                    for &place in &tap.places {
                        out[(d + q) * places + place] += sum;
                    }
                }
            }
        }
    }

    /// The same for `T` taps that lie in a row.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a range in each dimension")]
    fn row_of_taps<S: Simd, const V: usize, const T: usize, const D: usize>(
        &self,
        simd: S,
        sums: &mut [Sums<S::f32s, V, D>],
        phase: usize,
        taps: &[Tap],
        blocks: Range<usize>,
        rows: Range<usize>,
        d: usize,
    ) {
        let Self { plan, operands, .. } = *self;
        let Operands { in_rows, out_rows, columns, pitch, margin, .. } = *operands;
        let (step, plane, tile) = (plan.in_step as isize, operands.plane(), operands.tile());
        let input = vectors::<S, V>(&operands.input);
        let grad = &vectors::<S, V>(&operands.grad).as_chunks::<TILE>().0
            [(self.tile * plan.phases.len() + phase) * tile..][..tile];
        // Rows that have an input row.
        let down = taps[0].offset.0.div_euclid(step);
        let first = rows.start.max((-down).max(0) as usize);
        let last = rows.end.min((in_rows as isize - down).max(0) as usize);
        if first >= last {
            return;
        }
        let length = (last - first - 1) * pitch + columns;
        let planes: [[&[[S::f32s; V]]; D]; T] = std::array::from_fn(|t| {
            let (dy, dx) = taps[t].offset;
            let phase = (dy.rem_euclid(step) * step + dx.rem_euclid(step)) as usize;
            let start = margin as isize + dx.div_euclid(step);
            std::array::from_fn(|q| {
                let plane_at = ((d + q) * (step * step) as usize + phase) * plane;
                &input[plane_at..][..plane][start as usize..]
            })
        });
        for v in 0..V {
            let mut local = [[[simd.splat_f32s(0.0); TILE]; D]; T];
            for t in 0..T {
                local[t] = sums[t][v];
            }
            for block in blocks.clone() {
                let grad = &grad[(block * out_rows + first) * pitch..][..length];
                let row = (first as isize + down) as usize;
                let mut x: [[&[[S::f32s; V]]; D]; T] = planes;
                for t in 0..T {
                    for q in 0..D {
                        x[t][q] = &planes[t][q][(block * in_rows + row) * pitch..][..length];
                    }
                }
                for j in 0..length {
                    let mut pixel = [[simd.splat_f32s(0.0); D]; T];
                    for t in 0..T {
                        for q in 0..D {
                            pixel[t][q] = x[t][q][j][v];
                        }
                    }
                    // One number of the gradient at a time: sums, pixels and it are just as many as AVX2 has registers.
                    for o in 0..TILE {
                        let g = grad[j][o][v];
                        for t in 0..T {
                            for q in 0..D {
                                local[t][q][o] = simd.mul_add_f32s(g, pixel[t][q], local[t][q][o]);
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
