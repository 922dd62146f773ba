//! The gradient of a convolution's weights.

use super::plan::{Phase, Plan, Tap};
use super::product::vectors;
use crate::maps::{LANES, across};
use pulp::{Simd, WithSimd};

/// Output channels that a task sums for at a time; a task of fewer takes them one at a time.
pub(crate) const TILE: usize = 4;

/// About how many pixels are summed for one row of taps before the next: few enough to stay in the caches.
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

/// Sums for `O` output channels, `D` input channels and `T` taps, each of `V` vectors.
type Sums<F, const V: usize, const T: usize, const O: usize, const D: usize> = [[[[F; O]; D]; T]; V];

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    /// Input channels at a time for three taps, two and one, such that the sums of four output channels, the gradients
    /// and one pixel fill the vector registers.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 1, 2, 2, 4>(simd),
            8 => self.run::<S, 2, 1, 1, 2>(simd),
            4 => self.run::<S, 4, 2, 2, 4>(simd),
            _ => self.run::<S, LANES, 1, 1, 1>(simd),
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const D3: usize, const D2: usize, const D1: usize>(mut self, simd: S) {
        let Self { plan, places, .. } = self;
        for phase in &plan.phases {
            for line in phase.taps.chunk_by(|a, b| a.offset.0 == b.offset.0) {
                for taps in line.chunks(3) {
                    match taps.len() {
                        3 => self.taps::<S, V, 3, D3>(simd, phase, taps),
                        2 => self.taps::<S, V, 2, D2>(simd, phase, taps),
                        _ => self.taps::<S, V, 1, D1>(simd, phase, taps),
                    }
                }
            }
        }
    }

    /// `T` taps that lie in a row, `D` input channels at a time.
    #[inline(always)]
    fn taps<S: Simd, const V: usize, const T: usize, const D: usize>(
        &mut self,
        simd: S,
        phase: &Phase,
        taps: &[Tap],
    ) {
        let depth = self.plan.input.channels;
        let channels = self.out.len() / (depth * self.places);
        let whole = depth / D * D;
        if channels == TILE {
            (0..whole).step_by(D).for_each(|d| self.tile::<S, V, T, TILE, D>(simd, phase, taps, 0, d));
            (whole..depth).for_each(|d| self.tile::<S, V, T, TILE, 1>(simd, phase, taps, 0, d));
        } else {
            for o in 0..channels {
                (0..depth).for_each(|d| self.tile::<S, V, T, 1, 1>(simd, phase, taps, o, d));
            }
        }
    }

    /// `O` output channels from `first` + `o` on by `D` input channels from `d` on.
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const T: usize, const O: usize, const D: usize>(
        &mut self,
        simd: S,
        phase: &Phase,
        taps: &[Tap],
        o: usize,
        d: usize,
    ) {
        let depth = self.plan.input.channels;
        let mut sums = [[[[simd.splat_f32s(0.0); O]; D]; T]; V];
        self.accumulate::<S, V, T, O, D>(simd, &mut sums, phase, taps, o, d);
        for t in 0..T {
            for q in 0..D {
                for r in 0..O {
                    let mut sum = [0.0; LANES];
                    for v in 0..V {
                        let lanes = S::as_mut_simd_f32s(&mut sum[v * S::F32_LANES..][..S::F32_LANES]).0;
                        lanes[0] = sums[v][t][q][r];
                    }
                    let sum = across(sum);
                    for &place in &taps[t].places {
                        self.out[((o + r) * depth + d + q) * self.places + place] += sum;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn accumulate<S: Simd, const V: usize, const T: usize, const O: usize, const D: usize>(
        &self,
        simd: S,
        sums: &mut Sums<S::f32s, V, T, O, D>,
        phase: &Phase,
        taps: &[Tap],
        o: usize,
        d: usize,
    ) {
        let Self { plan, input, grad, first, .. } = *self;
        let (depth, channels) = (plan.input.channels, plan.output.channels);
        let blocks = input.len() / (plan.input.pixels() * depth * LANES);
        let (rows, columns) = plan.grid(phase);
        // Where each tap has a pixel, and where all have.
        let mut exists = [(0, 0); T];
        let (mut from, mut to) = (0, columns);
        for t in 0..T {
            exists[t] = plan.columns(0, columns, &taps[t]);
            from = from.max(exists[t].0);
            to = to.min(exists[t].1);
        }
        for v in 0..V {
            let mut local = sums[v];
            for block in 0..blocks {
                for y in 0..rows {
                    let Some(row) = plan.input_row(y, &taps[0]) else { continue };
                    let out_row = block * plan.output.height + phase.origin.0 + y * plan.out_step;
                    let in_row = block * plan.input.height + row;
                    for x in 0..columns {
                        let out_pixel = out_row * plan.output.width + phase.origin.1 + x * plan.out_step;
                        let g = &grad[(out_pixel * channels + first + o) * LANES..][..O * LANES];
                        let g = &vectors::<S, V>(g)[..O];
                        let all = from <= x && x < to;
                        for t in 0..T {
                            if !all && !(exists[t].0 <= x && x < exists[t].1) {
                                continue;
                            }
                            let column = (x * plan.in_step) as isize + taps[t].offset.1;
                            let in_pixel = in_row * plan.input.width + column as usize;
                            let x = &input[(in_pixel * depth + d) * LANES..][..D * LANES];
                            let x = &vectors::<S, V>(x)[..D];
                            for q in 0..D {
                                for r in 0..O {
                                    local[t][q][r] = simd.mul_add_f32s(g[r][v], x[q][v], local[t][q][r]);
                                }
                            }
                        }
                    }
                }
            }
            sums[v] = local;
        }
    }
}
