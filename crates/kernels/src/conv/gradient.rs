//! The gradient of a convolution's weights, tap by tap.

use super::bands::{Band, bands};
use super::outer::{CHUNK, Operand, Pair, ROWS, accumulate, transpose_rows};
use super::plan::{Phase, Plan, Tap};
use crate::maps::LANES;
use crate::scratch::scratch;
use std::ops::Range;

/// Pixels of the output whose products are summed before they are added to those before them.
const PIXELS: usize = 64;

/// Σ grad·x over images and pixels, for each weight: (out, in, places).
pub(super) fn weight_gradient(plan: &Plan, x: &[f32], grad: &[f32], places: usize) -> Vec<f32> {
    let (depth, out_channels) = (plan.input.channels, plan.output.channels);
    let (rows, columns) = (out_channels.next_multiple_of(ROWS), depth.next_multiple_of(CHUNK));
    let blocks = x.len() / (plan.input.pixels() * depth * LANES);
    let taps: Vec<(&Phase, &Tap)> =
        plan.phases.iter().flat_map(|phase| phase.taps.iter().map(move |tap| (phase, tap))).collect();
    let mut sums = vec![0.0; taps.len() * rows * columns];
    for band in bands(plan.output, blocks, plan.out_step, PIXELS) {
        let seen = plan.rows_seen(&band.rows);
        let x = x.as_chunks::<LANES>().0;
        scratch(band.blocks.len() * seen.len() * plan.input.width * columns, |transposed| {
            transpose_rows(plan.input, x, band.blocks.clone(), seen.clone(), transposed);
            let pairs: Vec<Vec<Pair>> =
                taps.iter().map(|(phase, tap)| pairs(plan, phase, tap, &band, &seen)).collect();
            let g = Operand { lanes: grad.as_chunks::<LANES>().0, chunk: CHUNK };
            let x = Operand { lanes: transposed, chunk: CHUNK };
            accumulate(&mut sums, (out_channels, columns), g, x, &pairs);
        });
    }
    let mut out = vec![0.0; out_channels * depth * places];
    for ((_, tap), sums) in taps.iter().zip(sums.chunks_exact(rows * columns)) {
        for (sums, out) in sums.chunks_exact(columns).zip(out.chunks_exact_mut(depth * places)) {
            for (sum, out) in sums.iter().zip(out.chunks_exact_mut(places)) {
                for &place in &tap.places {
                    out[place] += sum;
                }
            }
        }
    }
    out
}

/// Where a band's gradients of a tap lie, and the pixels that they are multiplied by: of the transposed rows `seen`.
fn pairs(plan: &Plan, phase: &Phase, tap: &Tap, band: &Band, seen: &Range<usize>) -> Vec<Pair> {
    let (input, output) = (plan.input, plan.output);
    let columns = input.channels.next_multiple_of(CHUNK);
    let (_, width) = plan.grid(phase);
    let (from, to) = plan.columns(0, width, tap);
    let mut pairs = vec![];
    for block in band.blocks.clone() {
        for j in plan.grid_rows(phase, &band.rows) {
            let Some(row) = plan.input_row(j, tap) else { continue };
            let y = phase.origin.0 + j * plan.out_step;
            let in_row = ((block - band.blocks.start) * seen.len() + row - seen.start) * input.width;
            for i in from..to {
                let x = phase.origin.1 + i * plan.out_step;
                let column = (i * plan.in_step) as isize + tap.offset.1;
                let pixel = (block * output.height + y) * output.width + x;
                pairs.push((pixel * output.channels, (in_row + column as usize) * columns));
            }
        }
    }
    pairs
}
