//! Features and classes that the pretrained classifier finds, FID and its error, KID, density and coverage.

mod bootstrap;
mod classifier;
mod features;
mod fid;
mod infinity;
mod kid;
mod neighbourhoods;

pub use bootstrap::{RESAMPLES, Resampled};
pub use classifier::{CLASSES, Classifier, Judged, WEIGHTS, class_counts};
pub use features::Features;
pub use fid::{Moments, Reference, fid};
pub use infinity::FidByN;
pub use kid::{Kid, kid_chunks, kid_subsets};
pub use neighbourhoods::{DensityCoverage, NEAREST, Neighbourhoods};

/// Why a set of features cannot be scored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// The values do not make whole rows.
    #[error("{values} values do not make rows of {dim}")]
    NotRows {
        /// How many values there are.
        values: usize,
        /// How many a row needs.
        dim: usize,
    },
    /// A value is NaN or infinite.
    #[error("feature {column} of sample {row} is {value}: not a finite number")]
    NonFinite {
        /// The sample, from 0.
        row: usize,
        /// The feature, from 0.
        column: usize,
        /// The value found there.
        value: f64,
    },
    /// There are not enough samples for the statistic.
    #[error("{found} samples are too few: {needed} are needed")]
    TooFew {
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The two sets have features of different dimensions.
    #[error("features of {real} and of {fake} dimensions cannot be compared")]
    DimsDiffer {
        /// Features of a real sample.
        real: usize,
        /// Features of a fake sample.
        fake: usize,
    },
    /// Too little is asked of the average over subsets.
    #[error("{subsets} subsets of {size} samples: at least 2 of at least 2 are needed")]
    Subsets {
        /// How many subsets.
        subsets: usize,
        /// Samples in each.
        size: usize,
    },
    /// A spread cannot be told from so few resamples.
    #[error("{resamples} resamples: at least 2 are needed")]
    Resamples {
        /// How many resamples.
        resamples: usize,
    },
    /// Neighbourhoods without a neighbour have no radius.
    #[error("0 nearest neighbours: at least 1 is needed")]
    NoNeighbours,
    /// The features are too large for their covariance to be a finite number, or its eigenvalues were not found.
    #[error("the covariance of the features has no eigenvalues in double precision")]
    Eigenvalues,
}
