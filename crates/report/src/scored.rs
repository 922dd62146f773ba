//! A run's record and its rows together.

use crate::files::read_csv;
use crate::record::{RunRecord, SampleRow};
use crate::summary::Summary;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashSet;
use std::path::Path;

/// The most rows of samples.csv: each takes seconds to measure.
const MOST_ROWS: usize = 10_000;

/// A run that was scored: its run.json and its samples.csv.
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
        let rows = read_csv(&path)?;
        check_rows(&rows).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Self { record, rows })
    }

    /// What charts and tables call it: experiment and run.
    pub fn name(&self) -> String {
        format!("{}/{}", self.record.experiment, self.record.run)
    }
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
