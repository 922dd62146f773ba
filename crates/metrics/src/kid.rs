//! Kernel Inception distance (Bińkowski 2018), in f64: the unbiased squared MMD with the kernel (x·y/d + 1)³.

use crate::{Features, MetricError};
use elucidate_core::rng::Streams;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par};
use rand::seq::index;
use rayon::prelude::*;

/// An average of squared MMDs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kid {
    /// The average; it may be negative, for its parts are unbiased.
    pub mean: f64,
    /// Standard error of the average over the draws of subsets. It tells nothing of how the score would change with
    /// other images.
    pub std_err: f64,
}

/// KID as torch-fidelity has it: the average over random subsets, each of `subset_size` real and as many fake samples
/// drawn without replacement. Subset k draws from stream ("kid", k) of the seed.
///
/// # Errors
/// When the dimensions differ, when a set has fewer than `subset_size` samples, or when there are fewer than 2 subsets
/// or samples in one.
pub fn kid_subsets(
    real: &Features,
    fake: &Features,
    subsets: usize,
    subset_size: usize,
    seed: u64,
) -> Result<Kid, MetricError> {
    real.check_comparable(fake)?;
    let found = real.samples().min(fake.samples());
    if subset_size > found {
        return Err(MetricError::TooFew { found, needed: subset_size });
    }
    if subsets < 2 || subset_size < 2 {
        return Err(MetricError::Subsets { subsets, size: subset_size });
    }
    let streams = Streams::new(seed);
    let squared_mmds: Vec<f64> = (0..subsets as u64)
        .into_par_iter()
        .map(|k| {
            let mut stream = streams.stream("kid", k);
            let mut draw = |features: &Features| {
                let chosen = index::sample(&mut stream, features.samples(), subset_size);
                let columns = features.rows().transpose();
                Mat::from_fn(features.dim(), subset_size, |i, j| columns[(i, chosen.index(j))])
            };
            let (x, y) = (draw(real), draw(fake));
            squared_mmd(x.transpose(), y.transpose())
        })
        .collect();
    let count = subsets as f64;
    let mean = squared_mmds.iter().sum::<f64>() / count;
    let variance = squared_mmds.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Ok(Kid { mean, std_err: (variance / count).sqrt() })
}

/// KID as the lesson's notebook has it: the average over max(⌈min(m, n)/50⌉, 4) contiguous chunks, chunk i of the one
/// set against chunk i of the other.
///
/// # Errors
/// When the dimensions differ, or when a set has fewer than 8 samples: a chunk needs 2.
pub fn kid_chunks(real: &Features, fake: &Features) -> Result<f64, MetricError> {
    const LARGEST: usize = 50;
    const FEWEST: usize = 4;
    real.check_comparable(fake)?;
    let found = real.samples().min(fake.samples());
    if found < 2 * FEWEST {
        return Err(MetricError::TooFew { found, needed: 2 * FEWEST });
    }
    let chunks = found.div_ceil(LARGEST).max(FEWEST);
    let squared_mmds: Vec<f64> = (0..chunks)
        .into_par_iter()
        .map(|i| squared_mmd(chunk(real.rows(), i, chunks), chunk(fake.rows(), i, chunks)))
        .collect();
    Ok(squared_mmds.iter().sum::<f64>() / chunks as f64)
}

/// Chunk `i` of `chunks`, its ends rounded as Python rounds: halves to even.
fn chunk(rows: MatRef<'_, f64>, i: usize, chunks: usize) -> MatRef<'_, f64> {
    let end = |i: usize| ((i * rows.nrows()) as f64 / chunks as f64).round_ties_even() as usize;
    rows.subrows(end(i), end(i + 1) - end(i))
}

/// The squared MMD between all real samples and each set that holds fake sample i `counts[i]` times, less the real samples' own
/// part, which is the same for all. Pairs of copies of one sample are left out: they are no two samples, and would bias the
/// estimate.
///
/// # Errors
/// When the dimensions differ.
pub(crate) fn counted_mmds(
    real: &Features,
    fake: &Features,
    counts: &[Vec<u32>],
) -> Result<Vec<f64>, MetricError> {
    /// Fake samples whose kernels are worked out together.
    const BLOCK: usize = 128;
    real.check_comparable(fake)?;
    let (n, d) = (fake.samples(), fake.dim());
    let counts = Mat::from_fn(n, counts.len(), |i, k| f64::from(counts[k][i]));
    // Of each resample: the kernel summed over pairs of different fake samples, and over fake and real ones.
    let sums_of = |from: usize| -> Vec<(f64, f64)> {
        let block = fake.rows().subrows(from, BLOCK.min(n - from));
        let ours = counts.subrows(from, block.nrows());
        let mut within = block * fake.rows().transpose();
        within
            .col_iter_mut()
            .flat_map(|column| column.iter_mut())
            .for_each(|value| *value = kernel(*value, d));
        let weighted = &within * &counts;
        let products = real.rows() * block.transpose();
        let between: Vec<f64> = (0..block.nrows()).map(|i| sum_kernel(products.col_as_slice(i), d)).collect();
        let sums = |k: usize| {
            (0..block.nrows()).fold((0.0, 0.0), |(within_sum, between_sum), i| {
                let count = ours[(i, k)];
                let pairs = weighted[(i, k)] - count * within[(i, from + i)];
                (within_sum + count * pairs, between_sum + count * between[i])
            })
        };
        (0..counts.ncols()).map(sums).collect()
    };
    let starts: Vec<usize> = (0..n).step_by(BLOCK).collect();
    let blocks: Vec<Vec<(f64, f64)>> = starts.into_par_iter().map(sums_of).collect();
    let mmd = |k: usize| {
        let total = n as f64;
        let copies: f64 = (0..n).map(|i| counts[(i, k)].powi(2)).sum();
        let pairs = (total * total - copies).max(1.0);
        let within: f64 = blocks.iter().map(|block| block[k].0).sum();
        let between: f64 = blocks.iter().map(|block| block[k].1).sum();
        within / pairs - 2.0 * between / (total * real.samples() as f64)
    };
    Ok((0..counts.ncols()).map(mmd).collect())
}

/// Unbiased estimate of the squared MMD between the distributions of the rows of x (m, d) and of y (n, d)
/// (Bińkowski 2018, eq. 4).
fn squared_mmd(x: MatRef<'_, f64>, y: MatRef<'_, f64>) -> f64 {
    mean_within(x) + mean_within(y) - 2.0 * mean_between(x, y)
}

/// Mean of the kernel over pairs of different rows. It is symmetric: half of them will do.
fn mean_within(x: MatRef<'_, f64>) -> f64 {
    let (n, d) = x.shape();
    let mut products = Mat::zeros(n, n);
    matmul(
        products.as_mut(),
        BlockStructure::StrictTriangularLower,
        Accum::Replace,
        x,
        BlockStructure::Rectangular,
        x.transpose(),
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    let sum: f64 = (0..n).map(|j| sum_kernel(&products.col_as_slice(j)[j + 1..], d)).sum();
    sum / (n * (n - 1) / 2) as f64
}

/// Mean of the kernel over all pairs of a row of x and a row of y.
fn mean_between(x: MatRef<'_, f64>, y: MatRef<'_, f64>) -> f64 {
    let products = x * y.transpose();
    let sum: f64 = (0..y.nrows()).map(|j| sum_kernel(products.col_as_slice(j), x.ncols())).sum();
    sum / (x.nrows() * y.nrows()) as f64
}

/// Σ (x·y/d + 1)³ over given products x·y.
fn sum_kernel(products: &[f64], d: usize) -> f64 {
    products.iter().map(|&product| kernel(product, d)).sum()
}

/// (x·y/d + 1)³ of a product x·y.
fn kernel(product: f64, d: usize) -> f64 {
    (product / d as f64 + 1.0).powi(3)
}
