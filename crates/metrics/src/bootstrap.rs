//! How much FID would change with other samples: the bootstrap (Efron 1979).

use crate::{Features, MetricError, Moments, Reference};
use elucidate_core::rng::Streams;
use rand::RngExt;
use rayon::prelude::*;

/// Resamples that give the standard error to about a tenth of itself.
pub const RESAMPLES: usize = 50;

/// Standard error of FID over the draw of the samples: the standard deviation over `resamples` sets of as many samples,
/// drawn from `fake` with replacement, the real images held fixed. Resample k draws from stream ("fid bootstrap", k) of
/// the seed.
///
/// Only the width is given, for the centre is of no use: a resample repeats samples, so its FID is too large. The width
/// errs on the safe side where FID is hardly more than its bias. Against the spread over 29 independent sets of 2,048 real
/// images it was twice as large without noise (FID 13.5), 1.2 times with noise of 0.05 (68) and 1.1 times with noise of
/// 0.1 (225).
///
/// # Errors
/// When the dimensions differ, when there are fewer than 2 resamples, or when eigenvalues are not found.
pub fn fid_std_err(
    reference: &Reference,
    fake: &Features,
    resamples: usize,
    seed: u64,
) -> Result<f64, MetricError> {
    reference.check_comparable(fake)?;
    if resamples < 2 {
        return Err(MetricError::Resamples { resamples });
    }
    let streams = Streams::new(seed);
    let fids: Vec<f64> = (0..resamples as u64)
        .into_par_iter()
        .map(|k| {
            let mut stream = streams.stream("fid bootstrap", k);
            let mut counts = vec![0; fake.samples()];
            (0..fake.samples()).for_each(|_| counts[stream.random_range(0..fake.samples())] += 1);
            reference.fid(&Moments::counted(fake, &counts))
        })
        .collect::<Result<_, _>>()?;
    let mean = fids.iter().sum::<f64>() / resamples as f64;
    let squares: f64 = fids.iter().map(|fid| (fid - mean).powi(2)).sum();
    Ok((squares / (resamples - 1) as f64).sqrt())
}
