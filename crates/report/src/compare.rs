//! Comparison: which settings differ by more than their errors.

use crate::charts::{Dot, DotChart, DotSet};
use crate::plots::label_among;
use crate::record::SampleRow;
use crate::scored::{ScoredRun, check_comparable};
use crate::setting::labels;
use crate::summary::{Basis, Estimate, Figure, Summary};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// A row of a comparison: what `other` has more than `base`. `…_low` and `…_high` are the ends of 95 % intervals of one model's
/// sampling; another training is not in them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Difference {
    pub base: String,
    pub other: String,
    /// As charts call it; where settings of one run are compared, the one that is compared with `base`.
    pub setting: String,
    pub n: usize,
    pub base_seeds: usize,
    pub other_seeds: usize,
    /// What the errors of the differences rest on.
    pub basis: Basis,
    pub base_fid: f64,
    pub base_fid_low: Option<f64>,
    pub base_fid_high: Option<f64>,
    pub fid: f64,
    pub fid_low: Option<f64>,
    pub fid_high: Option<f64>,
    pub fid_difference: f64,
    pub fid_difference_low: Option<f64>,
    pub fid_difference_high: Option<f64>,
    /// Whether 0 lies outside of the interval; so does `kid_differs`.
    pub fid_differs: bool,
    pub base_kid: f64,
    pub kid: f64,
    pub kid_difference: f64,
    pub kid_difference_low: Option<f64>,
    pub kid_difference_high: Option<f64>,
    pub kid_differs: bool,
}

impl Difference {
    fn of((base_name, base): (&str, &Summary), (other_name, other): (&str, &Summary)) -> Self {
        let (fid_difference, basis) = base.difference(other, Figure::Fid);
        let (kid_difference, _) = base.difference(other, Figure::Kid);
        let (base_fid, fid) = (base.figure(Figure::Fid), other.figure(Figure::Fid));
        let ends = |e: &Estimate| e.half_width().map(|width| (e.mean - width, e.mean + width)).unzip();
        let (base_fid_low, base_fid_high) = ends(&base_fid);
        let (fid_low, fid_high) = ends(&fid);
        let (fid_difference_low, fid_difference_high) = ends(&fid_difference);
        let (kid_difference_low, kid_difference_high) = ends(&kid_difference);
        Self {
            base: base_name.to_string(),
            other: other_name.to_string(),
            setting: other.first().label(),
            n: other.first().n,
            base_seeds: base.seeds(),
            other_seeds: other.seeds(),
            basis,
            base_fid: base_fid.mean,
            base_fid_low,
            base_fid_high,
            fid: fid.mean,
            fid_low,
            fid_high,
            fid_difference: fid_difference.mean,
            fid_difference_low,
            fid_difference_high,
            fid_differs: differs(&fid_difference, &base_fid),
            base_kid: base.figure(Figure::Kid).mean,
            kid: other.figure(Figure::Kid).mean,
            kid_difference: kid_difference.mean,
            kid_difference_low,
            kid_difference_high,
            kid_differs: differs(&kid_difference, &base.figure(Figure::Kid)),
        }
    }
}

/// Whether 0 lies outside of the interval, and not by rounding alone: real images have the same figures in all runs.
fn differs(difference: &Estimate, base: &Estimate) -> bool {
    difference.is_not_zero() && difference.mean.abs() > 1e-9 * base.mean.abs().max(1.0)
}

/// Every setting of the runs behind the first one that the first one has too, against it there.
///
/// # Errors
/// When the runs cannot be compared: one line that names the runs and the column in which they differ (classifier, data,
/// test images, number of samples), or says that they have no setting in common.
pub fn compare_runs(runs: &[ScoredRun]) -> Result<Vec<Difference>> {
    check_comparable(runs)?;
    let [base, others @ ..] = runs else { bail!("nothing to compare") };
    let bases = Summary::all(&base.rows);
    let labels = labels(runs.iter().flat_map(|run| &run.rows));
    let mut differences = vec![];
    for run in others {
        let before = differences.len();
        let others = Summary::all(&run.rows);
        let alike = |a: &Summary, b: &Summary| a.setting() == b.setting();
        let equal = |a: &Summary, b: &Summary| alike(a, b) && a.first().n == b.first().n;
        for other in &others {
            let same: Vec<&Summary> = bases.iter().filter(|base| alike(base, other)).collect();
            // Of a setting that has several numbers of samples, those that both have will do.
            let comparable = others.iter().any(|o| alike(o, other) && same.iter().any(|base| equal(base, o)));
            match same.iter().find(|base| equal(base, other)) {
                Some(same) => {
                    let difference = Difference::of((&base.name(), same), (&run.name(), other));
                    differences.push(Difference { setting: labels[other.setting()].clone(), ..difference });
                }
                None if same.is_empty() || comparable => {}
                None => bail!(
                    "{} and {} cannot be compared: {} differs in n ({} and {} samples), on which FID depends",
                    base.name(),
                    run.name(),
                    labels[other.setting()],
                    same[0].first().n,
                    other.first().n
                ),
            }
        }
        let sampled = |d: &Difference| !d.setting.starts_with("real");
        ensure!(
            differences[before..].iter().any(sampled),
            "{} and {} have no setting in common but real images",
            base.name(),
            run.name()
        );
    }
    Ok(differences)
}

/// The settings that not all of the runs have, real images excepted, each with those that have it: what [`compare_runs`] leaves
/// out of some or all pairs.
pub fn left_out(runs: &[ScoredRun]) -> Vec<String> {
    let labels = labels(runs.iter().flat_map(|run| &run.rows));
    let mut having: BTreeMap<(&str, usize), Vec<String>> = BTreeMap::new();
    for run in runs {
        for summary in Summary::all(run.rows.iter().filter(|row| !row.is_real())) {
            let label = labels[summary.setting()].as_str();
            having.entry((label, summary.first().n)).or_default().push(run.name());
        }
    }
    let partial = having.into_iter().filter(|(_, names)| names.len() < runs.len());
    partial.map(|((label, n), names)| format!("{label}, {n} samples: only in {}", names.join(", "))).collect()
}

/// Every setting of a run, real images excepted, against the one that is called `base`, or against its first one. Settings
/// with another number of samples are left out.
///
/// # Errors
/// When the run has no setting of this name: one line that lists them.
pub fn compare_settings(run: &ScoredRun, base: Option<&str>) -> Result<Vec<Difference>> {
    let sampled: Vec<&SampleRow> = run.rows.iter().filter(|row| !row.is_real()).collect();
    ensure!(!sampled.is_empty(), "{} has no rows of samples in its samples.csv yet", run.name());
    let settings = Summary::all(sampled.iter().copied());
    let labels = labels(sampled.iter().copied());
    let label = |summary: &Summary| labels[summary.setting()].clone();
    let called = |summary: &&Summary| base.is_none_or(|name| label(summary) == name);
    let base = settings.iter().find(called).with_context(|| {
        let labels: Vec<String> = settings.iter().map(label).collect();
        format!("{} has no setting {:?}: it has {}", run.name(), base.unwrap_or(""), labels.join("; "))
    })?;
    let comparable = settings.iter().filter(|s| s.first().n == base.first().n && *s != base);
    let difference = |other: &Summary| Difference {
        setting: label(other),
        ..Difference::of((&label(base), base), (&label(other), other))
    };
    Ok(comparable.map(difference).collect())
}

/// Differences of FID by setting with their 95 % intervals, a colour for each run behind the first.
pub fn difference_chart(differences: &[Difference]) -> DotChart {
    let within_one_run = differences.iter().all(|d| d.other == d.setting);
    let usual = differences.first().map_or(0, |d| d.n);
    let mut rows: Vec<String> = vec![];
    let mut sets: Vec<DotSet> = vec![];
    let (mut places, mut of_run, mut seen) = (HashMap::new(), HashMap::new(), HashMap::new());
    for difference in differences {
        let name = label_among(&difference.setting, difference.n, usual);
        let other = if within_one_run { "" } else { &difference.other };
        // What comes again under the same names has a row of its own.
        let times = seen.entry((other, name.clone())).and_modify(|times| *times += 1).or_insert(0);
        let row = *places.entry((name.clone(), *times)).or_insert_with(|| {
            rows.push(name);
            rows.len() - 1
        });
        let set = *of_run.entry(other).or_insert_with(|| {
            sets.push(DotSet { name: other.to_string(), dots: vec![] });
            sets.len() - 1
        });
        let dots = &mut sets[set].dots;
        dots.resize(dots.len().max(row + 1), None);
        dots[row] = Some(dot(difference));
    }
    let base = differences.first().map_or("", |d| d.base.as_str());
    DotChart {
        title: format!("FID minus that of {base}"),
        value_label: "difference of FID, with its 95 % interval".into(),
        rows,
        sets,
        reference: None,
    }
}

fn dot(difference: &Difference) -> Dot {
    Dot {
        value: difference.fid_difference,
        error: difference.fid_difference_high.map(|high| high - difference.fid_difference),
        note: if difference.fid_differs { "differs".into() } else { String::new() },
    }
}
