//! What FID is moved by: training again, sampling again, and the rest; and which differences between settings are those of trainings too.

use crate::scored::{ScoredRun, check_comparable};
use crate::setting::labels;
use crate::summary::{Estimate, Summary};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};

/// A setting over several trainings, each sampled with the same seeds. Standard deviations are of one training and one seed; a
/// component that comes out below 0 is given as 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Components {
    pub setting: String,
    /// Samples of each training and seed.
    pub n: usize,
    pub trainings: usize,
    pub seeds: usize,
    /// Over all of them.
    pub fid: f64,
    /// What another training moves FID by, the seeds of sampling the same.
    pub training_std: f64,
    /// The ends of its 95 % interval (Satterthwaite 1946).
    pub training_std_low: f64,
    pub training_std_high: f64,
    /// What another seed of sampling moves it by in all trainings alike.
    pub sampling_std: f64,
    /// What is left: a seed of sampling does not do the same to every training.
    pub rest_std: f64,
    /// What it has more than the setting that it is compared with, in the mean over trainings.
    pub difference: Option<f64>,
    /// The ends of its 95 % interval, by Student's t over trainings.
    pub difference_low: Option<f64>,
    pub difference_high: Option<f64>,
    /// The probability of a difference as large or larger where there is none.
    pub p: Option<f64>,
    /// The same with Holm's correction (1979) for the number of settings compared.
    pub p_holm: Option<f64>,
}

/// FID of one setting, a row for each training and a column for each seed.
struct Crossed {
    values: Vec<Vec<f64>>,
}

/// The mean squares of a two-way analysis of variance with one value a cell.
struct MeanSquares {
    training: f64,
    sampling: f64,
    rest: f64,
}

impl Crossed {
    /// Of the rows of `setting` with `n` samples; the same seeds in every run.
    fn of(runs: &[ScoredRun], setting: &str, n: usize) -> Result<Self> {
        let mut values = vec![];
        let mut first: Option<Vec<u64>> = None;
        for run in runs {
            let mut rows: Vec<_> =
                run.rows.iter().filter(|row| row.n == n && row.setting() == setting).collect();
            rows.sort_by_key(|row| row.seed);
            let seeds: Vec<u64> = rows.iter().map(|row| row.seed).collect();
            let expected = first.get_or_insert_with(|| seeds.clone());
            ensure!(
                seeds == *expected,
                "{} has {setting} of the seeds {seeds:?}, the first run of {expected:?}: sample every model with the same \
                 --seed and --seeds",
                run.name()
            );
            values.push(rows.iter().map(|row| row.fid).collect());
        }
        Ok(Self { values })
    }

    fn trainings(&self) -> f64 {
        self.values.len() as f64
    }

    fn seeds(&self) -> f64 {
        self.values[0].len() as f64
    }

    /// The mean of each training.
    fn means(&self) -> Vec<f64> {
        self.values.iter().map(|row| mean(row)).collect()
    }

    fn mean_squares(&self) -> MeanSquares {
        let (a, b) = (self.trainings(), self.seeds());
        let rows = self.means();
        let columns: Vec<f64> = (0..self.values[0].len())
            .map(|j| mean(&self.values.iter().map(|row| row[j]).collect::<Vec<_>>()))
            .collect();
        let all = mean(&rows);
        let squares = |means: &[f64]| means.iter().map(|mean| (mean - all).powi(2)).sum::<f64>();
        let cells = self.values.iter().zip(&rows).flat_map(|(row, row_mean)| {
            row.iter().zip(&columns).map(move |(value, column)| (value - row_mean - column + all).powi(2))
        });
        MeanSquares {
            training: b * squares(&rows) / (a - 1.0),
            sampling: a * squares(&columns) / (b - 1.0),
            rest: cells.sum::<f64>() / ((a - 1.0) * (b - 1.0)),
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Every setting that all `runs` have, real images excepted: runs of one command but for the seed of training, each sampled with the
/// same seeds. `base` is the setting that the others of as many samples are compared with [default: the first].
///
/// # Errors
/// When there are fewer than two runs or seeds, when the runs cannot be compared or were not sampled with the same seeds, or when
/// they have no setting that is called `base`.
pub fn components(runs: &[ScoredRun], base: Option<&str>) -> Result<Vec<Components>> {
    ensure!(runs.len() > 1, "components of variance take two trainings or more: give a run of each");
    check_comparable(runs)?;
    let sampled = || runs[0].rows.iter().filter(|row| !row.is_real());
    let labels = labels(sampled());
    let in_all = |summary: &Summary| {
        let has = |run: &ScoredRun| {
            run.rows.iter().any(|row| row.n == summary.first().n && row.setting() == summary.setting())
        };
        runs.iter().all(has)
    };
    let settings: Vec<Summary> = Summary::all(sampled()).into_iter().filter(in_all).collect();
    let called = |summary: &&Summary| base.is_none_or(|name| labels[summary.setting()] == name);
    let base = settings.iter().find(called).with_context(|| match base {
        Some(name) => format!("not all of the runs have the setting {name:?}"),
        None => "the runs have no setting in common".to_string(),
    })?;
    let crossed = |summary: &Summary| Crossed::of(runs, summary.setting(), summary.first().n);
    let of_base = crossed(base)?;
    ensure!(of_base.seeds() > 1.0, "each model needs two seeds of sampling or more: give --seeds 3");
    let mut all = vec![];
    for summary in &settings {
        let values = crossed(summary)?;
        let n = summary.first().n;
        let compared = (summary != base && n == base.first().n).then(|| {
            let pairs = values.means().into_iter().zip(of_base.means());
            Estimate::of(&pairs.map(|(other, base)| other - base).collect::<Vec<_>>())
        });
        all.push(row(labels[summary.setting()].clone(), n, &values, compared));
    }
    holm(&mut all);
    Ok(all)
}

fn row(setting: String, n: usize, values: &Crossed, compared: Option<Estimate>) -> Components {
    let MeanSquares { training, sampling, rest } = values.mean_squares();
    let (a, b) = (values.trainings(), values.seeds());
    let std = |variance: f64| variance.max(0.0).sqrt();
    let variance = (training - rest) / b;
    // Satterthwaite's degrees of freedom of a difference of mean squares.
    let freedom =
        (training - rest).powi(2) / (training.powi(2) / (a - 1.0) + rest.powi(2) / ((a - 1.0) * (b - 1.0)));
    let end = |quantile: f64| {
        let distribution = ChiSquared::new(freedom).ok().filter(|_| variance > 0.0);
        distribution.map_or(0.0, |of| std(variance * freedom / of.inverse_cdf(quantile)))
    };
    let half_width = compared.and_then(|difference| difference.half_width());
    Components {
        setting,
        n,
        trainings: values.values.len(),
        seeds: values.values[0].len(),
        fid: mean(&values.means()),
        training_std: std(variance),
        training_std_low: end(0.975),
        training_std_high: end(0.025),
        sampling_std: std((sampling - rest) / a),
        rest_std: std(rest),
        difference: compared.map(|difference| difference.mean),
        difference_low: compared.zip(half_width).map(|(difference, width)| difference.mean - width),
        difference_high: compared.zip(half_width).map(|(difference, width)| difference.mean + width),
        p: compared.and_then(|difference| probability(&difference)),
        p_holm: None,
    }
}

/// Two-sided, by Student's t; 0 where there is a difference and no error.
fn probability(difference: &Estimate) -> Option<f64> {
    let (std_err, freedom) = difference.error?;
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(2.0 * student.sf((difference.mean / std_err).abs()))
}

/// Holm 1979: of m probabilities in rising order, the i-th times m − i + 1, and none below the one before it.
fn holm(rows: &mut [Components]) {
    let mut order: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].p.is_some()).collect();
    order.sort_by(|&a, &b| rows[a].p.unwrap_or(1.0).total_cmp(&rows[b].p.unwrap_or(1.0)));
    let m = order.len();
    let mut least: f64 = 0.0;
    for (i, place) in order.into_iter().enumerate() {
        least = least.max((m - i) as f64 * rows[place].p.unwrap_or(1.0)).min(1.0);
        rows[place].p_holm = Some(least);
    }
}
