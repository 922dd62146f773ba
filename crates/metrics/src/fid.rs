//! Fréchet Inception distance (Heusel 2017), in f64. faer is built without its threads: results are the same on any
//! number of processors.

use crate::features::check_dims;
use crate::{Features, MetricError};
use faer::{Col, Mat, Scale, Side};

/// Mean and covariance of a set of features.
#[derive(Debug, Clone)]
pub struct Moments {
    mean: Col<f64>,
    covariance: Mat<f64>,
    /// The covariance's rank is at most this.
    max_rank: usize,
    /// F (d, n) with F·Fᵀ the covariance, where there are fewer samples than dimensions.
    factor: Option<Mat<f64>>,
}

impl Moments {
    /// The mean (d) and the covariance (d, d), divided by n − 1.
    pub fn of(features: &Features) -> Self {
        let rows = features.rows();
        let (samples, dim) = rows.shape();
        let mean = Col::from_fn(dim, |j| rows.col(j).sum() / samples as f64);
        let centred = Mat::from_fn(samples, dim, |i, j| rows[(i, j)] - mean[j]);
        let covariance = Scale(1.0 / (samples - 1) as f64) * (centred.transpose() * &centred);
        let factor =
            (samples < dim).then(|| Scale(1.0 / ((samples - 1) as f64).sqrt()) * centred.transpose());
        Self { mean, covariance, max_rank: dim.min(samples - 1), factor }
    }

    /// As [`Moments::of`], of the set that holds sample i `counts[i]` times, at least 2 samples in all.
    pub(crate) fn counted(features: &Features, counts: &[u32]) -> Self {
        let columns = features.rows().transpose();
        let (dim, total) = (features.dim(), f64::from(counts.iter().sum::<u32>()));
        let held: Vec<usize> = (0..counts.len()).filter(|&i| counts[i] > 0).collect();
        let mut mean = Col::zeros(dim);
        held.iter().for_each(|&i| mean += Scale(f64::from(counts[i]) / total) * columns.col(i));
        // Of centred samples times the roots of their counts, the products sum as those of the repeated samples do.
        let roots: Vec<f64> = held.iter().map(|&i| f64::from(counts[i]).sqrt()).collect();
        let centred = Mat::from_fn(dim, held.len(), |j, k| roots[k] * (columns[(j, held[k])] - mean[j]));
        let covariance = Scale(1.0 / (total - 1.0)) * (&centred * centred.transpose());
        let factor = (held.len() < dim).then(|| Scale(1.0 / (total - 1.0).sqrt()) * &centred);
        Self { mean, covariance, max_rank: dim.min(held.len() - 1), factor }
    }
}

/// The real images' side of FID, worked out once: moments and the root of the covariance.
#[derive(Debug, Clone)]
pub struct Reference {
    moments: Moments,
    covariance_sqrt: Mat<f64>,
}

impl Reference {
    /// Of these moments.
    ///
    /// # Errors
    /// When the eigenvalues are not found.
    pub fn new(moments: Moments) -> Result<Self, MetricError> {
        let covariance_sqrt = sqrt(&moments.covariance)?;
        Ok(Self { moments, covariance_sqrt })
    }

    /// # Errors
    /// When `fake` has vectors of another dimension.
    pub(crate) fn check_comparable(&self, fake: &Features) -> Result<(), MetricError> {
        check_dims(self.moments.mean.nrows(), fake.dim())
    }

    /// ‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½) (Heusel 2017, eq. 6). The trace of the root is Σ√λ over the eigenvalues of
    /// the symmetric Σ₁^½·Σ₂·Σ₁^½, those of Σ₁Σ₂.
    ///
    /// With fewer samples than dimensions, Σ₂ = F·Fᵀ with a narrow F, the same eigenvalues but zeros are those of the small
    /// (Σ₁^½·F)ᵀ·(Σ₁^½·F). Zeros come out as rounding errors, whose roots are not small: only as many eigenvalues as the
    /// ranks allow are counted, the largest.
    ///
    /// # Errors
    /// When the dimensions differ or the eigenvalues are not found.
    pub fn fid(&self, fake: &Moments) -> Result<f64, MetricError> {
        let real = &self.moments;
        check_dims(real.mean.nrows(), fake.mean.nrows())?;
        let product = match &fake.factor {
            Some(factor) => {
                let narrow = &self.covariance_sqrt * factor;
                narrow.transpose() * &narrow
            }
            None => &self.covariance_sqrt * &fake.covariance * &self.covariance_sqrt,
        };
        let ascending =
            finite(&product)?.self_adjoint_eigenvalues(Side::Lower).map_err(|_| MetricError::Eigenvalues)?;
        let rank = real.max_rank.min(fake.max_rank);
        let root_trace: f64 = ascending.iter().rev().take(rank).map(|value| value.max(0.0).sqrt()).sum();
        let shift = (&real.mean - &fake.mean).squared_norm_l2();
        Ok(shift + trace(&real.covariance) + trace(&fake.covariance) - 2.0 * root_trace)
    }
}

/// FID between two sets of features; see [`Reference::fid`]. Zero for equal sets, up to rounding.
///
/// # Errors
/// When the dimensions differ or the eigenvalues are not found.
pub fn fid(real: &Features, fake: &Features) -> Result<f64, MetricError> {
    real.check_comparable(fake)?;
    Reference::new(Moments::of(real))?.fid(&Moments::of(fake))
}

/// Root of a symmetric matrix without negative eigenvalues but for rounding.
fn sqrt(matrix: &Mat<f64>) -> Result<Mat<f64>, MetricError> {
    let eigen = finite(matrix)?.self_adjoint_eigen(Side::Lower).map_err(|_| MetricError::Eigenvalues)?;
    let (vectors, values) = (eigen.U(), eigen.S());
    let scaled =
        Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| vectors[(i, j)] * values[j].max(0.0).sqrt());
    Ok(scaled * vectors.transpose())
}

fn finite(matrix: &Mat<f64>) -> Result<&Mat<f64>, MetricError> {
    if matrix.is_all_finite() { Ok(matrix) } else { Err(MetricError::Eigenvalues) }
}

fn trace(matrix: &Mat<f64>) -> f64 {
    matrix.diagonal().column_vector().sum()
}
