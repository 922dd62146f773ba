//! How much FID and KID would change with other samples: the bootstrap (Efron 1979).

use crate::kid::counted_mmds;
use crate::{Features, MetricError, Moments, Reference};
use elucidate_core::rng::Streams;
use rand::RngExt;
use rayon::prelude::*;

/// Resamples that give a standard error to 7 % of itself.
pub const RESAMPLES: usize = 100;

/// FID and KID of sets of as many samples, drawn from the samples with replacement, the real images held fixed. The k-th set
/// holds the same numbers of samples whatever the samples are: of two settings whose k-th samples begin with the same noise,
/// the k-th resamples are a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Resampled {
    /// FID of each resample. Too large, for a resample repeats samples: their scatter counts, and not their mean.
    pub fid: Vec<f64>,
    /// The unbiased squared MMD of each, over all samples and all real images, less the real images' own part; pairs of copies
    /// of one sample are left out.
    pub kid: Vec<f64>,
}

impl Resampled {
    /// Resample k draws from stream ("bootstrap", k) of the seed.
    ///
    /// # Errors
    /// When the dimensions differ, when there are fewer than 2 resamples, or when eigenvalues are not found.
    pub fn new(
        reference: &Reference,
        real: &Features,
        fake: &Features,
        resamples: usize,
        seed: u64,
    ) -> Result<Self, MetricError> {
        reference.check_comparable(fake)?;
        if resamples < 2 {
            return Err(MetricError::Resamples { resamples });
        }
        let streams = Streams::new(seed);
        let counts: Vec<Vec<u32>> = (0..resamples as u64)
            .map(|k| {
                let mut stream = streams.stream("bootstrap", k);
                let mut counts = vec![0; fake.samples()];
                (0..fake.samples()).for_each(|_| counts[stream.random_range(0..fake.samples())] += 1);
                counts
            })
            .collect();
        let fid = |counts: &Vec<u32>| reference.fid(&Moments::counted(fake, counts));
        Ok(Self {
            fid: counts.par_iter().map(fid).collect::<Result<_, _>>()?,
            kid: counted_mmds(real, fake, &counts)?,
        })
    }

    /// Standard error of FID over the draw of the samples.
    pub fn fid_std_err(&self) -> f64 {
        std(&self.fid)
    }

    /// Standard error of KID over the draw of the samples.
    pub fn kid_std_err(&self) -> f64 {
        std(&self.kid)
    }
}

fn std(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}
