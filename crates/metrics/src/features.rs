//! Sets of feature vectors.

use crate::MetricError;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use elucidate_core::files::read_tensors;
use faer::{Mat, MatRef};
use std::path::Path;

/// Feature vectors of n ≥ 2 samples, each of d finite numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// (d, n): a sample's numbers lie side by side.
    columns: Mat<f64>,
}

impl Features {
    /// From `values`, the vectors of `dim` numbers one after the other.
    ///
    /// # Errors
    /// When they do not make whole rows, when there are fewer than 2, or when a value is not finite.
    pub fn new(values: &[f64], dim: usize) -> Result<Self, MetricError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(MetricError::NotRows { values: values.len(), dim });
        }
        let found = values.len() / dim;
        if found < 2 {
            return Err(MetricError::TooFew { found, needed: 2 });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(MetricError::NonFinite { row: at / dim, column: at % dim, value: values[at] });
        }
        Ok(Self { columns: MatRef::from_column_major_slice(values, dim, found).to_owned() })
    }

    /// From a tensor (n, d) of any type and device.
    ///
    /// # Errors
    /// When the tensor has another rank, and as [`Features::new`].
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let &[_, dim] = tensor.dims() else {
            anyhow::bail!("features have shape {:?}; (n, d) is needed", tensor.dims())
        };
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(Self::new(&values, dim)?)
    }

    /// Reads the tensor `features` (n, d) of a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a whole safetensors file or lacks the tensor, and as
    /// [`Features::from_tensor`]; each names the file.
    pub fn read(path: &Path) -> Result<Self> {
        let tensors = read_tensors(path, &Device::Cpu)?;
        let features = tensors.get("features").context("tensor features is missing");
        features
            .and_then(Self::from_tensor)
            .with_context(|| format!("cannot read features from {}", path.display()))
    }

    /// The vectors as the rows of a matrix (n, d).
    pub fn rows(&self) -> MatRef<'_, f64> {
        self.columns.transpose()
    }

    /// How many samples: n.
    pub fn samples(&self) -> usize {
        self.columns.ncols()
    }

    /// How many numbers a sample has: d.
    pub fn dim(&self) -> usize {
        self.columns.nrows()
    }

    /// The first `n` samples.
    ///
    /// # Errors
    /// When there are fewer, or `n` is less than 2.
    pub fn first(&self, n: usize) -> Result<Self, MetricError> {
        let (found, needed) = (n.min(self.samples()), n.max(2));
        if found < needed {
            return Err(MetricError::TooFew { found, needed });
        }
        Ok(Self { columns: self.columns.subcols(0, n).to_owned() })
    }

    /// The samples with these numbers.
    ///
    /// # Errors
    /// When there are fewer than 2.
    ///
    /// # Panics
    /// When a number is too large.
    pub fn select(&self, samples: &[usize]) -> Result<Self, MetricError> {
        if samples.len() < 2 {
            return Err(MetricError::TooFew { found: samples.len(), needed: 2 });
        }
        Ok(Self { columns: Mat::from_fn(self.dim(), samples.len(), |i, j| self.columns[(i, samples[j])]) })
    }

    /// # Errors
    /// When `fake` has vectors of another dimension.
    pub(crate) fn check_comparable(&self, fake: &Self) -> Result<(), MetricError> {
        check_dims(self.dim(), fake.dim())
    }
}

/// # Errors
/// When the dimensions differ.
pub(crate) fn check_dims(real: usize, fake: usize) -> Result<(), MetricError> {
    if real == fake { Ok(()) } else { Err(MetricError::DimsDiffer { real, fake }) }
}
