//! Figures over seeds: means, standard errors, differences.

use crate::record::SampleRow;

use std::collections::HashMap;

/// A figure of samples.csv that has errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Fréchet distance of the features.
    Fid,
    /// Kernel distance of the features.
    Kid,
}

/// A mean and what it may be off by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error, where it is known.
    pub std_err: Option<f64>,
}

impl Estimate {
    /// The mean of `values` and its standard error, their standard deviation over √n; of one value none is known.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean, std_err: (values.len() > 1).then(|| (variance / n).sqrt()) }
    }

    /// Whether it differs from 0 by more than two standard errors.
    pub fn is_not_zero(&self) -> bool {
        self.std_err.is_some_and(|error| self.mean.abs() > 2.0 * error)
    }
}

impl Figure {
    fn of(self, row: &SampleRow) -> f64 {
        match self {
            Self::Fid => row.fid,
            Self::Kid => row.kid,
        }
    }

    /// The error that one seed knows of: the bootstrap's of FID, that of KID over its subsets.
    fn within_seed(self, row: &SampleRow) -> Option<f64> {
        match self {
            Self::Fid => row.fid_std_err,
            Self::Kid => Some(row.kid_std_err),
        }
    }
}

/// The rows of one setting and number of samples, each with a seed of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary<'a> {
    setting: String,
    rows: Vec<&'a SampleRow>,
}

impl<'a> Summary<'a> {
    /// Of every setting in `rows`, in their order.
    pub fn all(rows: impl IntoIterator<Item = &'a SampleRow>) -> Vec<Self> {
        let mut all: Vec<Self> = vec![];
        let mut places = HashMap::new();
        for row in rows {
            let place = *places.entry((row.n, row.setting())).or_insert(all.len());
            match all.get_mut(place) {
                Some(summary) => summary.rows.push(row),
                None => all.push(Self { setting: row.setting(), rows: vec![row] }),
            }
        }
        all
    }

    /// The row of the first seed: every one has its setting.
    pub fn first(&self) -> &'a SampleRow {
        self.rows[0]
    }

    /// What tells its setting from another one: that of [`SampleRow::setting`].
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// Its rows.
    pub fn rows(&self) -> &[&'a SampleRow] {
        &self.rows
    }

    /// How many seeds.
    pub fn seeds(&self) -> usize {
        self.rows.len()
    }

    /// The mean over seeds with its standard error; of one seed, the error that it knows of itself.
    pub fn figure(&self, figure: Figure) -> Estimate {
        let values: Vec<f64> = self.rows.iter().map(|row| figure.of(row)).collect();
        match self.rows.as_slice() {
            [row] => Estimate { mean: figure.of(row), std_err: figure.within_seed(row) },
            _ => Estimate::of(&values),
        }
    }

    /// How much more `other` has, and on how many common seeds this rests: the mean of the differences seed by seed,
    /// which begin with the same noise. Where fewer than two seeds are common the means are subtracted, and the errors
    /// of both add in squares.
    pub fn difference(&self, other: &Self, figure: Figure) -> (Estimate, usize) {
        let pairs = self.rows.iter().filter_map(|a| {
            let b = other.rows.iter().find(|b| b.seed == a.seed)?;
            Some(figure.of(b) - figure.of(a))
        });
        let differences: Vec<f64> = pairs.collect();
        if differences.len() > 1 {
            return (Estimate::of(&differences), differences.len());
        }
        let (a, b) = (self.figure(figure), other.figure(figure));
        let std_err = a.std_err.zip(b.std_err).map(|(a, b)| a.hypot(b));
        (Estimate { mean: b.mean - a.mean, std_err }, 0)
    }
}
