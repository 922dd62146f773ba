//! Figures over seeds: means, standard errors, differences.

use crate::record::{Resamples, SampleRow};
use serde::{Serialize, Serializer};
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal, StudentsT};
use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

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
    /// Its standard error and the degrees of freedom that this has, where it is known.
    pub error: Option<(f64, f64)>,
}

impl Estimate {
    /// The mean of `values` and its standard error, their standard deviation over √n; of one value none is known.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        Self { mean: mean(values), error: (values.len() > 1).then(|| (std(values) / n.sqrt(), n - 1.0)) }
    }

    /// The mean of each of `groups`, with errors from the scatter within all of them together: for groups of few values each, whose
    /// scatter is alike. Of groups of one value each none is known.
    pub fn of_groups(groups: &[Vec<f64>]) -> Vec<Self> {
        let freedom = groups.iter().map(|values| values.len() as f64 - 1.0).sum::<f64>();
        let squares: f64 = groups.iter().map(|values| squares(values)).sum();
        let scatter = (squares / freedom).sqrt();
        let error = |n: usize| (freedom > 0.0).then(|| (scatter / (n as f64).sqrt(), freedom));
        groups.iter().map(|values| Self { mean: mean(values), error: error(values.len()) }).collect()
    }

    /// Half the width of its 95 % interval: Student's t times the standard error.
    pub fn half_width(&self) -> Option<f64> {
        let (std_err, freedom) = self.error?;
        // Of infinitely many degrees Student's t is the normal distribution.
        Some(match StudentsT::new(0.0, 1.0, freedom) {
            Ok(student) if freedom < 1e6 => std_err * student.inverse_cdf(0.975),
            _ => std_err * Normal::standard().inverse_cdf(0.975),
        })
    }

    /// Whether 0 lies outside of its 95 % interval.
    pub fn is_not_zero(&self) -> bool {
        self.half_width().is_some_and(|width| self.mean.abs() > width)
    }
}

/// The mean and, where it is known, ± half the width of the 95 % interval, with the digits that are asked for.
impl Display for Estimate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$}", self.mean)?;
        match self.half_width() {
            Some(width) => write!(f, " ± {width:.digits$}"),
            None => Ok(()),
        }
    }
}

/// Standard deviation of at least two values.
fn std(values: &[f64]) -> f64 {
    (squares(values) / (values.len() as f64 - 1.0)).sqrt()
}

/// Sum of the squared distances from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Figure {
    fn of(self, row: &SampleRow) -> f64 {
        match self {
            Self::Fid => row.fid,
            Self::Kid => row.kid,
        }
    }

    fn drawn(self, resamples: &Resamples) -> &[f32] {
        match self {
            Self::Fid => &resamples.fid,
            Self::Kid => &resamples.kid,
        }
    }

    /// The bootstrap's standard error and its degrees of freedom, one less than there were resamples: those before schema 5 were 50.
    fn within_seed(self, row: &SampleRow) -> Option<(f64, f64)> {
        let std_err = match self {
            Self::Fid => row.fid_std_err,
            Self::Kid => row.kid_bootstrap_std_err,
        };
        let resamples = row.resamples.as_ref().map_or(50, |drawn| drawn.fid.len());
        Some((std_err?, resamples as f64 - 1.0))
    }

    /// The standard error of what `b` has more than `a`, of the same seed: the k-th resamples of both hold the same numbers of
    /// samples, which began with the same noise.
    fn between(self, a: &SampleRow, b: &SampleRow) -> Option<(f64, f64)> {
        let (a, b) = (self.drawn(a.resamples.as_ref()?), self.drawn(b.resamples.as_ref()?));
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect();
        (a.len() == b.len()).then(|| (std(&differences), a.len() as f64 - 1.0))
    }
}

/// The error of a mean over seeds, each with its own: none unless every seed has one.
fn pooled(errors: impl Iterator<Item = Option<(f64, f64)>>) -> Option<(f64, f64)> {
    let errors: Vec<(f64, f64)> = errors.collect::<Option<_>>()?;
    let squares: f64 = errors.iter().map(|(std_err, _)| std_err.powi(2)).sum();
    Some((squares.sqrt() / errors.len() as f64, errors.iter().map(|(_, freedom)| freedom).sum()))
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

    fn values(&self, figure: Figure) -> Vec<f64> {
        self.rows.iter().map(|row| figure.of(row)).collect()
    }

    /// The rows of both of each common seed.
    fn pairs<'b>(&self, other: &Summary<'b>) -> Vec<(&'a SampleRow, &'b SampleRow)> {
        let of_seed = |a: &&'a SampleRow| Some((*a, *other.rows.iter().find(|b| b.seed == a.seed)?));
        self.rows.iter().filter_map(of_seed).collect()
    }

    /// The mean over seeds: with the bootstrap's error where every seed has it, else with the scatter of the seeds.
    pub fn figure(&self, figure: Figure) -> Estimate {
        let scatter = Estimate::of(&self.values(figure));
        let bootstrap = pooled(self.rows.iter().map(|row| figure.within_seed(row)));
        Estimate { error: bootstrap.or(scatter.error), ..scatter }
    }

    /// What the scatter over seeds is of what the bootstrap within each seed says; nothing where there are not two seeds, or one was not
    /// resampled.
    pub fn scatter_over_bootstrap(&self, figure: Figure) -> Option<Ratio> {
        Ratio::of(&self.values(figure), self.rows.iter().map(|row| figure.within_seed(row)))
    }

    /// The same of the differences seed by seed, whose bootstrap is of pairs.
    pub fn difference_over_bootstrap(&self, other: &Self, figure: Figure) -> Option<Ratio> {
        let pairs = self.pairs(other);
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| figure.of(b) - figure.of(a)).collect();
        Ratio::of(&differences, pairs.iter().map(|(a, b)| figure.between(a, b)))
    }

    /// How much more `other` has. Of common seeds, the mean of the differences seed by seed, which begin with the same noise, with
    /// the bootstrap's error of pairs where every seed has it, else with the scatter of the differences. Else, and where one
    /// common seed has no pairs, the means are subtracted, and the errors of both add in squares.
    pub fn difference(&self, other: &Self, figure: Figure) -> (Estimate, Basis) {
        let pairs = self.pairs(other);
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| figure.of(b) - figure.of(a)).collect();
        if !pairs.is_empty() {
            let scatter = Estimate::of(&differences);
            if let Some(error) = pooled(pairs.iter().map(|(a, b)| figure.between(a, b))) {
                return (Estimate { error: Some(error), ..scatter }, Basis::Pairs(pairs.len()));
            }
            if pairs.len() > 1 {
                return (scatter, Basis::Seeds(pairs.len()));
            }
        }
        let (a, b) = (self.figure(figure), other.figure(figure));
        let error = a.error.zip(b.error).map(|(a, b)| welch(a, b));
        (Estimate { mean: b.mean - a.mean, error }, Basis::Apart)
    }
}

/// A standard deviation over what was expected, and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The ratio.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Ratio {
    /// The scatter of `values` over the root mean square of their `errors`; the interval is χ²'s of the scatter's degrees of freedom, and
    /// takes the errors as known.
    fn of(values: &[f64], errors: impl Iterator<Item = Option<(f64, f64)>>) -> Option<Self> {
        let squares: Vec<f64> =
            errors.map(|error| Some(error?.0.powi(2))).collect::<Option<_>>().filter(|_| values.len() > 1)?;
        let expected = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        let freedom = values.len() as f64 - 1.0;
        let distribution = ChiSquared::new(freedom).ok()?;
        let value = std(values) / expected;
        let end = |quantile: f64| value * (freedom / distribution.inverse_cdf(quantile)).sqrt();
        Some(Self { value, low: end(0.975), high: end(0.025) })
    }
}

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.value, self.low, self.high)
    }
}

/// The error of a difference of independent means, and its degrees of freedom (Welch 1947).
fn welch((a, of_a): (f64, f64), (b, of_b): (f64, f64)) -> (f64, f64) {
    let freedom = (a * a + b * b).powi(2) / (a.powi(4) / of_a + b.powi(4) / of_b);
    (a.hypot(b), if freedom.is_finite() { freedom } else { of_a.min(of_b) })
}

/// What the error of a difference rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The bootstrap of pairs of samples that began with the same noise, over so many seeds.
    Pairs(usize),
    /// The scatter of the differences over so many seeds.
    Seeds(usize),
    /// The errors of both, which add in squares: nothing is paired.
    Apart,
}

impl Serialize for Basis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Display for Basis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pairs(1) => write!(f, "pairs, 1 seed"),
            Self::Pairs(seeds) => write!(f, "pairs, {seeds} seeds"),
            Self::Seeds(seeds) => write!(f, "{seeds} seeds"),
            Self::Apart => write!(f, "apart"),
        }
    }
}
