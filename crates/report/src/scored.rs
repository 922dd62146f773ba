//! A run's record and its rows together.

use crate::files::{is_there, read_csv, read_json, write_atomically};
use crate::record::{Resamples, RunRecord, SampleRow};
use crate::summary::Summary;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// The most rows of samples.csv: each takes seconds to measure.
const MOST_ROWS: usize = 10_000;

/// Where the bootstrap's draws of a run are, beside samples.csv.
const RESAMPLES: &str = "resamples.json";

/// What names a row in resamples.json: its setting, number of samples and seed.
fn resamples_key(row: &SampleRow) -> String {
    format!("{}, n={}, seed={}", row.setting(), row.n, row.seed)
}

/// A run that was scored: its run.json, its samples.csv and its resamples.json.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRun {
    /// run.json.
    pub record: RunRecord,
    /// The rows of samples.csv.
    pub rows: Vec<SampleRow>,
    /// What tells it from others of the same experiment and run.
    place: Option<String>,
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
        Ok(Self { record, rows, place: None })
    }

    /// Reads several runs, and tells those of one name apart by the folders that they are in.
    ///
    /// # Errors
    /// As [`ScoredRun::read`], and when a folder is given twice.
    pub fn read_all(folders: &[PathBuf]) -> Result<Vec<Self>> {
        let mut runs: Vec<Self> = folders.iter().map(|folder| Self::read(folder)).collect::<Result<_>>()?;
        let names: Vec<String> = runs.iter().map(Self::name).collect();
        for (run, place) in runs.iter_mut().zip(places(folders, &names)?) {
            run.place = place;
        }
        Ok(runs)
    }

    /// What charts and tables call it: experiment and run, and where several have these, where it is.
    pub fn name(&self) -> String {
        named(&self.record, self.place.as_deref())
    }
}

/// A run's experiment and name, and where it is where others have these.
pub(crate) fn named(record: &RunRecord, place: Option<&str>) -> String {
    let place = place.map_or_else(String::new, |place| format!(" ({place})"));
    format!("{}/{}{place}", record.experiment, record.run)
}

/// What tells each of `folders` from others with the same of `names`; an error where one is given twice.
pub(crate) fn places(folders: &[PathBuf], names: &[String]) -> Result<Vec<Option<String>>> {
    let mut paths: Vec<PathBuf> = vec![];
    for folder in folders {
        let path = folder.canonicalize().with_context(|| format!("{} is not there", folder.display()))?;
        ensure!(!paths.contains(&path), "{} is given twice", folder.display());
        paths.push(path);
    }
    let place = |i: usize| {
        let alike: Vec<&PathBuf> =
            (0..names.len()).filter(|&j| names[j] == names[i]).map(|j| &paths[j]).collect();
        (alike.len() > 1).then(|| differing_part(&paths[i], &alike))
    };
    Ok((0..folders.len()).map(place).collect())
}

/// The shortest part of `path`, from its end, in which it differs from each other one of `paths`, less what all of them end with.
fn differing_part(path: &Path, paths: &[&PathBuf]) -> String {
    let parts = |path: &Path| -> Vec<String> {
        path.components().rev().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (ours, all): (_, Vec<Vec<String>>) = (parts(path), paths.iter().map(|path| parts(path)).collect());
    let common = (0..ours.len()).take_while(|&i| all.iter().all(|other| other.get(i) == ours.get(i))).count();
    let tail = |parts: &[String], length: usize| parts.get(common..common + length).map(<[String]>::to_vec);
    let unique =
        |length: &usize| all.iter().filter(|other| tail(other, *length) == tail(&ours, *length)).count() == 1;
    let length = (1..=ours.len() - common).find(unique).unwrap_or(ours.len() - common);
    ours[common..common + length].iter().rev().cloned().collect::<Vec<_>>().join("/")
}

/// Writes what the bootstrap drew for each row that has it into the run's folder `run`, as resamples.json.
///
/// # Errors
/// When the file cannot be written.
pub fn write_resamples(run: &Path, rows: &[SampleRow]) -> Result<()> {
    let all: BTreeMap<String, &Resamples> =
        rows.iter().filter_map(|row| Some((resamples_key(row), row.resamples.as_ref()?))).collect();
    write_atomically(&run.join(RESAMPLES), &serde_json::to_vec(&all)?)
}

/// Gives each row what the bootstrap drew for it, where that was kept.
fn attach_resamples(run: &Path, rows: &mut [SampleRow]) -> Result<()> {
    let path = run.join(RESAMPLES);
    if !is_there(&path) {
        return Ok(());
    }
    let mut all: BTreeMap<String, Resamples> = read_json(&path)?;
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
    if let Some((i, column, values)) = incomparable(rows) {
        bail!("row {} differs from the first in {column} ({} and {})", i + 1, values[0], values[1]);
    }
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

/// Refuses runs whose figures cannot be compared: those without any, and those of another classifier, other data or other test images.
///
/// # Errors
/// One line that names the run that has no rows, or both runs, the column in which they differ and what it holds.
pub fn check_comparable(runs: &[ScoredRun]) -> Result<()> {
    if let Some(run) = runs.iter().find(|run| run.rows.is_empty()) {
        bail!("{} has no rows in its samples.csv yet", run.name());
    }
    let firsts: Vec<(&ScoredRun, &SampleRow)> =
        runs.iter().filter_map(|run| Some((run, run.rows.first()?))).collect();
    if let Some((i, column, values)) = incomparable(firsts.iter().map(|(_, row)| *row)) {
        bail!(
            "{} and {} cannot be compared: they differ in {column} ({} and {})",
            firsts[0].0.name(),
            firsts[i].0.name(),
            values[0],
            values[1]
        );
    }
    Ok(())
}

/// The first row whose figures cannot be compared with those of row 0, the column in which they differ, and what it holds there.
fn incomparable<'a>(
    rows: impl IntoIterator<Item = &'a SampleRow>,
) -> Option<(usize, &'static str, [String; 2])> {
    let columns = |row: &SampleRow| {
        [
            ("classifier_sha256", row.classifier_sha256.clone()),
            ("data_sha256", row.data_sha256.clone()),
            ("n_real", row.n_real.to_string()),
        ]
    };
    let mut rows = rows.into_iter().enumerate();
    let first = columns(rows.next()?.1);
    rows.find_map(|(i, row)| {
        let pairs = first.iter().zip(columns(row));
        let differing = pairs.into_iter().find(|((_, ours), (_, theirs))| ours != theirs);
        differing.map(|((column, ours), (_, theirs))| {
            (i, *column, [shortened(ours).to_string(), shortened(&theirs).to_string()])
        })
    })
}

/// Enough of a checksum to tell it from another.
fn shortened(text: &str) -> &str {
    text.get(..12).unwrap_or(text)
}
