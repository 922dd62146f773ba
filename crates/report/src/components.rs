//! What FID is moved by: training again, sampling again, and the rest; and which differences between settings hold over trainings too.

use crate::record::SampleRow;
use crate::scored::{ScoredRun, check_comparable};
use crate::setting::labels;
use crate::summary::{Estimate, Summary, mean};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF, FisherSnedecor, StudentsT};

/// A setting over several trainings, each sampled with the same seeds: a two-way analysis of variance with one FID a cell, trainings
/// and seeds both drawn from many. Standard deviations are of one training and one seed; a component that comes out below 0 is given
/// as 0.
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
    /// The ends of its 95 % interval (Ting 1990: modified large sample).
    pub training_std_low: f64,
    pub training_std_high: f64,
    /// What another seed of sampling moves it by in all trainings alike.
    pub sampling_std: f64,
    /// What is left: a seed of sampling does not do the same to every training.
    pub rest_std: f64,
    /// What it has more than the setting that it is compared with.
    pub difference: Option<f64>,
    /// The ends of its 95 % interval: of other trainings and other seeds, whose components of the difference add (Satterthwaite 1946).
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

/// The mean squares of a two-way analysis of variance with one value a cell, and their degrees of freedom.
struct MeanSquares {
    training: f64,
    sampling: f64,
    rest: f64,
    of_training: f64,
    of_sampling: f64,
    of_rest: f64,
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
            ensure!(
                seeds.len() > 1,
                "{} has one seed of {setting}: sample every model with two seeds or more, as with --seeds 3",
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
        let (of_training, of_sampling) = (a - 1.0, b - 1.0);
        let of_rest = of_training * of_sampling;
        MeanSquares {
            training: b * squares(&rows) / of_training,
            sampling: a * squares(&columns) / of_sampling,
            rest: cells.sum::<f64>() / of_rest,
            of_training,
            of_sampling,
            of_rest,
        }
    }

    /// What it has more than `base`, cell by cell.
    fn minus(&self, base: &Self) -> Self {
        let rows = self.values.iter().zip(&base.values);
        let difference =
            |(row, base): (&Vec<f64>, &Vec<f64>)| row.iter().zip(base).map(|(a, b)| a - b).collect();
        Self { values: rows.map(difference).collect() }
    }

    /// The mean over all cells and its error, of other trainings and other seeds: (σ²_T/a + σ²_S/b + σ²_R/ab), components below 0
    /// left out.
    fn estimate(&self) -> Estimate {
        let squares = self.mean_squares();
        let MeanSquares { training, sampling, rest, of_training, of_sampling, of_rest } = squares;
        let counts = |square: f64| if square > rest { 1.0 } else { 0.0 };
        let (t, s) = (counts(training), counts(sampling));
        let r = 1.0 - t - s;
        let sum = t * training + s * sampling + r * rest;
        let freedom = sum.powi(2)
            / (t * training.powi(2) / of_training
                + s * sampling.powi(2) / of_sampling
                + (r * rest).powi(2) / of_rest);
        let std_err = (sum / (self.trainings() * self.seeds())).sqrt();
        // Where nothing scatters, any degrees of freedom will do.
        let freedom = if freedom.is_finite() { freedom } else { of_training };
        Estimate { mean: mean(&self.means()), error: Some((std_err, freedom)) }
    }
}

/// Every setting that all `runs` have, real images excepted: runs of one command but for the seed of training, each sampled with the
/// same seeds. `base` is the setting that the others of as many samples are compared with [default: the first].
///
/// # Errors
/// When there are fewer than two runs or seeds, when the runs differ in more than the training's seed, are of one model, or were not
/// sampled with the same seeds, or when they have no setting that is called `base`.
pub fn components(runs: &[ScoredRun], base: Option<&str>) -> Result<Vec<Components>> {
    ensure!(runs.len() > 1, "components of variance take two trainings or more: give a run of each");
    check_comparable(runs)?;
    check_trainings(runs)?;
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
        Some(name) => {
            let known: Vec<&str> = settings.iter().map(|of| labels[of.setting()].as_str()).collect();
            format!("not all of the runs have a setting {name:?}: they have {}", known.join("; "))
        }
        None => "the runs have no setting in common".to_string(),
    })?;
    let crossed = |summary: &Summary| Crossed::of(runs, summary.setting(), summary.first().n);
    let of_base = crossed(base)?;
    let mut all = vec![];
    for summary in &settings {
        let values = crossed(summary)?;
        let n = summary.first().n;
        let compared = summary != base && n == base.first().n;
        ensure!(
            !compared || values.seeds() == of_base.seeds(),
            "{} and {} were sampled with other numbers of seeds: they cannot be compared",
            labels[base.setting()],
            labels[summary.setting()]
        );
        let difference = compared.then(|| values.minus(&of_base).estimate());
        all.push(row(labels[summary.setting()].clone(), n, &values, difference));
    }
    holm(&mut all);
    Ok(all)
}

/// Refuses runs that are not trainings of one kind, each of a model of its own.
fn check_trainings(runs: &[ScoredRun]) -> Result<()> {
    let kind = |row: &SampleRow| {
        [
            ("experiment", row.experiment.clone()),
            ("epochs", row.epochs.to_string()),
            ("batch_size", row.batch_size.to_string()),
            ("blocks", row.blocks.clone()),
            ("parameters", row.parameters.to_string()),
            ("sigma_data", row.sigma_data.map_or_else(String::new, |sigma| sigma.to_string())),
        ]
    };
    for (i, run) in runs.iter().enumerate() {
        let Some(row) = run.rows.first() else { bail!("{} has no samples", run.name()) };
        for before in &runs[..i] {
            let other = &before.rows[0];
            let differing = kind(row).into_iter().zip(kind(other)).find(|(a, b)| a != b);
            if let Some(((column, ours), (_, theirs))) = differing {
                bail!(
                    "{} and {} differ in {column} ({theirs} and {ours}), not in the seed of training alone",
                    before.name(),
                    run.name()
                );
            }
            ensure!(
                row.checkpoint_sha256 != other.checkpoint_sha256,
                "{} and {} are of one model: give a run of each training",
                before.name(),
                run.name()
            );
        }
    }
    Ok(())
}

fn row(setting: String, n: usize, values: &Crossed, difference: Option<Estimate>) -> Components {
    let squares = values.mean_squares();
    let (a, b) = (values.trainings(), values.seeds());
    let std = |variance: f64| variance.max(0.0).sqrt();
    let (low, high) = squares.difference_interval();
    let half_width = difference.and_then(|difference| difference.half_width());
    Components {
        setting,
        n,
        trainings: values.values.len(),
        seeds: values.values[0].len(),
        fid: mean(&values.means()),
        training_std: std((squares.training - squares.rest) / b),
        training_std_low: std(low / b),
        training_std_high: std(high / b),
        sampling_std: std((squares.sampling - squares.rest) / a),
        rest_std: std(squares.rest),
        difference: difference.map(|difference| difference.mean),
        difference_low: difference.zip(half_width).map(|(difference, width)| difference.mean - width),
        difference_high: difference.zip(half_width).map(|(difference, width)| difference.mean + width),
        p: difference.and_then(|difference| probability(&difference)),
        p_holm: None,
    }
}

impl MeanSquares {
    /// The 95 % interval of what the expected mean square of trainings is more than the rest's: Ting, Burdick, Graybill, Jeyaratnam & Lu
    /// 1990, the modified large-sample interval, with its symbols. It keeps its level where Satterthwaite's, of a difference, does not.
    fn difference_interval(&self) -> (f64, f64) {
        const TAIL: f64 = 0.025;
        let &Self { training: s1, rest: s2, of_training: n1, of_rest: n2, .. } = self;
        let (Ok(chi1), Ok(chi2), Ok(f)) =
            (ChiSquared::new(n1), ChiSquared::new(n2), FisherSnedecor::new(n1, n2))
        else {
            return (0.0, f64::INFINITY);
        };
        let g = |n: f64, chi: &ChiSquared| 1.0 - n / chi.inverse_cdf(1.0 - TAIL);
        let h = |n: f64, chi: &ChiSquared| n / chi.inverse_cdf(TAIL) - 1.0;
        let (g1, g2, h1, h2) = (g(n1, &chi1), g(n2, &chi2), h(n1, &chi1), h(n2, &chi2));
        let (upper, lower) = (f.inverse_cdf(1.0 - TAIL), f.inverse_cdf(TAIL));
        let g12 = ((upper - 1.0).powi(2) - (g1 * upper).powi(2) - h2.powi(2)) / upper;
        let h12 = ((1.0 - lower).powi(2) - (h1 * lower).powi(2) - g2.powi(2)) / lower;
        let below = (g1 * s1).powi(2) + (h2 * s2).powi(2) + g12 * s1 * s2;
        let above = (h1 * s1).powi(2) + (g2 * s2).powi(2) + h12 * s1 * s2;
        (s1 - s2 - below.max(0.0).sqrt(), s1 - s2 + above.max(0.0).sqrt())
    }
}

/// Two-sided, by Student's t; where nothing scatters, 1 of no difference and 0 of any.
fn probability(difference: &Estimate) -> Option<f64> {
    let (std_err, freedom) = difference.error?;
    if std_err == 0.0 {
        return Some(if difference.mean == 0.0 { 1.0 } else { 0.0 });
    }
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
