//! A run's record and its rows together.

use crate::files::{is_there, read_csv, read_json};
use crate::record::{Resamples, RunRecord, SampleRow};
use crate::summary::Summary;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The most rows of samples.csv: each takes seconds to measure.
const MOST_ROWS: usize = 10_000;

/// Where the bootstrap's draws of a run are, beside samples.csv.
pub const RESAMPLES: &str = "resamples.json";

/// The bootstrap's draws of a run, by [`resamples_key`].
pub type AllResamples = BTreeMap<String, Resamples>;

/// What names a row in resamples.json: its setting, number of samples and seed.
pub fn resamples_key(row: &SampleRow) -> String {
    format!("{}, n={}, seed={}", row.setting(), row.n, row.seed)
}

/// A run that was scored: its run.json, its samples.csv and its resamples.json.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRun {
    /// run.json.
    pub record: RunRecord,
    /// The rows of samples.csv.
    pub rows: Vec<SampleRow>,
}

impl ScoredRun {
    /// Reads the run's folder `run`.
    ///
    /// # Errors
    /// When run.json or samples.csv is missing, damaged, or newer than this program; when samples.csv has more than
    /// 10,000 rows, two of a setting and seed, or figures that are not finite.
    pub fn read(run: &Path) -> Result<Self> {
        let record = RunRecord::read(run)?;
        let path = run.join("samples.csv");
        let mut rows = read_csv(&path)?;
        check_rows(&rows).with_context(|| format!("{} is damaged", path.display()))?;
        attach_resamples(run, &mut rows)?;
        Ok(Self { record, rows })
    }

    /// What charts and tables call it: experiment and run.
    pub fn name(&self) -> String {
        format!("{}/{}", self.record.experiment, self.record.run)
    }
}

/// Gives each row what the bootstrap drew for it, where that was kept.
fn attach_resamples(run: &Path, rows: &mut [SampleRow]) -> Result<()> {
    let path = run.join(RESAMPLES);
    if !is_there(&path) {
        return Ok(());
    }
    let mut all: AllResamples = read_json(&path)?;
    for row in rows {
        row.resamples = all.remove(&resamples_key(row));
        if let Some(Resamples { fid, kid }) = &row.resamples {
            let finite = fid.iter().chain(kid).all(|value| value.is_finite());
            ensure!(
                finite && fid.len() > 1 && fid.len() == kid.len(),
                "{} is damaged: {} needs as many finite figures of FID as of KID, at least two",
                path.display(),
                resamples_key(row)
            );
        }
    }
    Ok(())
}

/// Refuses rows that can be neither compared nor drawn, and those that would count a seed twice.
fn check_rows(rows: &[SampleRow]) -> Result<()> {
    ensure!(rows.len() <= MOST_ROWS, "{} rows, more than {MOST_ROWS}", rows.len());
    for (i, row) in rows.iter().enumerate() {
        row.check().with_context(|| format!("row {}", i + 1))?;
    }
    for summary in Summary::all(rows) {
        let mut seeds = HashSet::new();
        for row in summary.rows() {
            ensure!(seeds.insert(row.seed), "{} has two rows of seed {}", row.label(), row.seed);
        }
    }
    Ok(())
}

/// Refuses runs whose figures cannot be compared: those of another classifier, other data or other test images.
///
/// # Errors
/// One line that names both runs, the column in which they differ and what it holds.
pub fn check_comparable(runs: &[ScoredRun]) -> Result<()> {
    let columns = |row: &SampleRow| {
        [
            ("classifier_sha256", row.classifier_sha256.clone()),
            ("data_sha256", row.data_sha256.clone()),
            ("n_real", row.n_real.to_string()),
        ]
    };
    let mut rows = runs.iter().flat_map(|run| run.rows.iter().map(|row| (run.name(), row)));
    let Some((first_name, first)) = rows.next() else { return Ok(()) };
    for (name, row) in rows {
        for ((column, ours), (_, theirs)) in columns(first).into_iter().zip(columns(row)) {
            if theirs != ours {
                bail!(
                    "{first_name} and {name} cannot be compared: they differ in {column} ({} and {})",
                    shortened(&ours),
                    shortened(&theirs)
                );
            }
        }
    }
    Ok(())
}

/// Enough of a checksum to tell it from another.
fn shortened(text: &str) -> &str {
    text.get(..12).unwrap_or(text)
}
