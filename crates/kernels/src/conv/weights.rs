//! The gradient of a convolution's weights.

use super::plan::{Phase, Plan, Tap};
use super::product::vectors;
use crate::maps::{LANES, across};
use pulp::{Simd, WithSimd};

/// Output channels, and input channels, that a task sums over at a time; the rest one at a time.
pub(crate) const TILE: usize = 4;

/// About how many pixels are summed for one tap before the next: few enough to stay in the first cache.
const PIXELS: usize = 64;

/// Sums over all images and pixels of grad·x for each weight of the output channels `channels` (at most [`TILE`]):
/// `out` is (channels, input channels, places in the kernel), and holds zeros.
pub(crate) struct WeightGradient<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) input: &'a [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) first: usize,
    pub(crate) out: &'a mut [f32],
    pub(crate) places: usize,
}

/// A row of one block of images.
type Row = (usize, usize);

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 1, 4>(simd),
            8 => self.run::<S, 2, 2>(simd),
            4 => self.run::<S, 4, 4>(simd),
            _ => self.run::<S, LANES, 1>(simd),
        }
    }
}

impl WeightGradient<'_> {
    /// `WIDE`: input channels at a time.
    #[inline(always)]
    fn run<S: Simd, const V: usize, const WIDE: usize>(mut self, simd: S) {
        let depth = self.plan.input.channels;
        let channels = self.out.len() / (depth * self.places);
        let wide = depth / WIDE * WIDE;
        if channels == TILE {
            (0..wide).step_by(WIDE).for_each(|d| self.tile::<S, V, TILE, WIDE>(simd, 0, d));
            (wide..depth).for_each(|d| self.tile::<S, V, TILE, 1>(simd, 0, d));
        } else {
            for o in 0..channels {
                (0..wide).step_by(WIDE).for_each(|d| self.tile::<S, V, 1, WIDE>(simd, o, d));
                (wide..depth).for_each(|d| self.tile::<S, V, 1, 1>(simd, o, d));
            }
        }
    }

    /// `O` output channels from `first` + `o` on by `D` input channels from `d` on.
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const O: usize, const D: usize>(&mut self, simd: S, o: usize, d: usize) {
        let plan = self.plan;
        let blocks = self.input.len() / (plan.input.pixels() * plan.input.channels * LANES);
        let mut sums = vec![[[[simd.splat_f32s(0.0); D]; O]; V]; plan.taps()];
        let mut at = 0;
        for phase in &plan.phases {
            let (rows, columns) = plan.grid(phase);
            let sums = &mut sums[at..at + phase.taps.len()];
            at += phase.taps.len();
            let all: Vec<Row> = (0..blocks).flat_map(|b| (0..rows).map(move |y| (b, y))).collect();
            for rows in all.chunks(PIXELS.div_ceil(columns.max(1))) {
                for (sums, tap) in sums.iter_mut().zip(&phase.taps) {
                    self.accumulate::<S, V, O, D>(simd, sums, phase, tap, rows, columns, (o, d));
                }
            }
        }
        let depth = plan.input.channels;
        let taps = plan.phases.iter().flat_map(|phase| &phase.taps);
        for (sums, tap) in sums.iter().zip(taps) {
            for r in 0..O {
                for q in 0..D {
                    let mut sum = [0.0; LANES];
                    for v in 0..V {
                        let lanes = S::as_mut_simd_f32s(&mut sum[v * S::F32_LANES..][..S::F32_LANES]).0;
                        lanes[0] = sums[v][r][q];
                    }
                    let sum = across(sum);
                    for &place in &tap.places {
                        self.out[((o + r) * depth + d + q) * self.places + place] += sum;
                    }
                }
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn accumulate<S: Simd, const V: usize, const O: usize, const D: usize>(
        &self,
        simd: S,
        sums: &mut [[[S::f32s; D]; O]; V],
        phase: &Phase,
        tap: &Tap,
        rows: &[Row],
        columns: usize,
        (o, d): (usize, usize),
    ) {
        let Self { plan, input, grad, first, .. } = *self;
        let (depth, channels) = (plan.input.channels, plan.output.channels);
        let (from, to) = plan.columns(0, columns, tap);
        for v in 0..V {
            let mut local = sums[v];
            for &(block, y) in rows {
                let Some(row) = plan.input_row(y, tap) else { continue };
                let out_row = block * plan.output.height + phase.origin.0 + y * plan.out_step;
                let in_row = block * plan.input.height + row;
                for x in from..to {
                    let out_pixel = out_row * plan.output.width + phase.origin.1 + x * plan.out_step;
                    let column = (x * plan.in_step) as isize + tap.offset.1;
                    let in_pixel = in_row * plan.input.width + column as usize;
                    let g: &[[S::f32s; V]] =
                        vectors::<S, V>(&grad[(out_pixel * channels + first + o) * LANES..][..O * LANES]);
                    let x: &[[S::f32s; V]] =
                        vectors::<S, V>(&input[(in_pixel * depth + d) * LANES..][..D * LANES]);
                    for r in 0..O {
                        for q in 0..D {
                            local[r][q] = simd.mul_add_f32s(g[r][v], x[q][v], local[r][q]);
                        }
                    }
                }
            }
            sums[v] = local;
        }
    }
}
