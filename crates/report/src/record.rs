//! What is written down about a run and about each of its measurements.

use crate::files::{check_text, read_json};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The version of run.json and of the CSVs beside it that this program writes; it reads older ones too. 2 added the
/// columns of samples.csv behind `variant`, `role` and `std_err` of the charts' CSVs, and rows of more than one seed. 3
/// added `resumed` and `models` of run.json. 4 added the columns `setting` and `label`. 5 called `kid_std_err`
/// `kid_subsets_std_err`, since it is not what other samples would change, and added `kid_bootstrap_std_err` and resamples.json. 6
/// added the option `fid_every` and fid_by_epoch.csv. 7 called `std_err` of the charts' CSVs `half_width`.
pub const SCHEMA_VERSION: u32 = 7;

/// The largest figure: sums of its squares are still numbers.
const LARGEST: f64 = 1e100;

/// A row of samples.csv: one setting and seed. Enough to repeat the measurement and to refuse a comparison of unlike
/// things. Options that a sampler does not have are empty; so is what a run of an older version did not measure.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SampleRow {
    pub experiment: String,
    pub run: String,
    /// As the options name it; `real` for real images, `real_…` for yardsticks.
    pub sampler: String,
    pub steps: Option<usize>,
    /// Network evaluations for each sample.
    pub nfe: Option<usize>,
    pub rho: Option<f64>,
    pub sigma_min: Option<f64>,
    pub sigma_max: Option<f64>,
    pub eta: Option<f64>,
    pub s_churn: Option<f64>,
    pub order: Option<usize>,
    /// Of the samples' noise; the model's is in run.json.
    pub seed: u64,
    /// Samples scored.
    pub n: usize,
    pub fid: f64,
    /// Mean over random subsets of at most 1,000 (torch-fidelity's way).
    pub kid: f64,
    /// For drawing the samples; scoring left out.
    pub seconds: f64,
    /// Standard error of `kid` over the subsets: of these samples, not of others. `kid_std_err` before schema 5.
    #[serde(alias = "kid_std_err")]
    pub kid_subsets_std_err: f64,
    /// Mean over contiguous chunks (the notebook's way).
    pub kid_chunks: f64,
    /// Test images scored against.
    pub n_real: usize,
    pub preset: String,
    /// 0 where the model was not trained here; so is `batch_size`.
    pub epochs: usize,
    pub batch_size: usize,
    /// Channels of the UNet's levels, as in 16-32-64-64.
    pub blocks: String,
    pub parameters: usize,
    pub sigma_data: Option<f64>,
    pub data_sha256: String,
    pub classifier_sha256: String,
    pub checkpoint_sha256: String,
    pub git_revision: String,
    pub device: String,
    pub threads: usize,
    /// What else was changed in the sampler, as in 22_no_t; empty where nothing was.
    #[serde(default)]
    pub variant: Option<String>,
    /// The bootstrap's standard error of `fid`: of drawing other samples, not of another model.
    #[serde(default)]
    pub fid_std_err: Option<f64>,
    /// FID extrapolated to infinitely many samples (Chong & Forsyth 2020).
    #[serde(default)]
    pub fid_infinity: Option<f64>,
    /// Naeem 2020, with the first `n` test images: how much of the samples lies where real images do; 1 for real ones.
    #[serde(default)]
    pub density: Option<f64>,
    /// Naeem 2020: how many of the real images have a sample near them; at most 1.
    #[serde(default)]
    pub coverage: Option<f64>,
    /// Samples that the classifier takes for each of the ten classes, as in 203-198-….
    #[serde(default)]
    pub classes: Option<String>,
    /// The setting's canonical text, as in `heun steps=20 s_churn=0.5 …`: the key of the row. Empty for real images.
    #[serde(default)]
    pub setting: Option<String>,
    /// What charts and tables call the setting, as in `heun 20 s_churn=0.5`.
    #[serde(default)]
    pub label: Option<String>,
    /// The bootstrap's standard error of `kid`: of drawing other samples, not of another model.
    #[serde(default)]
    pub kid_bootstrap_std_err: Option<f64>,
    /// What the bootstrap drew, from resamples.json beside the table.
    #[serde(skip)]
    pub resamples: Option<Resamples>,
}

/// FID and KID of sets of as many samples, drawn from a row's samples with replacement. The k-th set holds the same numbers of
/// samples in every row of the same seed and number of samples, so the rows' k-th figures are pairs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resamples {
    /// FID of each.
    pub fid: Vec<f32>,
    /// KID of each, less a constant that is the same for all rows.
    pub kid: Vec<f32>,
}

impl SampleRow {
    /// Whether real images were scored, whole or spoilt, and no sampler's.
    pub fn is_real(&self) -> bool {
        self.sampler.starts_with("real")
    }

    /// Refuses what can be neither compared nor drawn.
    pub(crate) fn check(&self) -> Result<()> {
        let figures = [
            ("fid", Some(self.fid)),
            ("kid", Some(self.kid)),
            ("rho", self.rho),
            ("sigma_min", self.sigma_min),
            ("sigma_max", self.sigma_max),
            ("eta", self.eta),
            ("s_churn", self.s_churn),
        ];
        for (column, value) in figures {
            let usable = value.is_none_or(|value| (-LARGEST..=LARGEST).contains(&value));
            ensure!(usable, "{column} is {:e}", value.unwrap_or(f64::NAN));
        }
        let not_negative = [
            ("kid_subsets_std_err", Some(self.kid_subsets_std_err)),
            ("fid_std_err", self.fid_std_err),
            ("kid_bootstrap_std_err", self.kid_bootstrap_std_err),
            ("density", self.density),
            ("coverage", self.coverage),
        ];
        for (column, value) in not_negative {
            let usable = value.is_none_or(|value| (0.0..=LARGEST).contains(&value));
            ensure!(usable, "{column} is {:e}", value.unwrap_or(f64::NAN));
        }
        if let Some(classes) = &self.classes {
            ensure!(class_counts(classes).is_some(), "classes are {classes:?}: not ten counts of samples");
        }
        Ok(())
    }
}

/// The counts in [`SampleRow::classes`]; None unless they are ten and not all 0.
pub(crate) fn class_counts(classes: &str) -> Option<[f64; 10]> {
    let counts = classes.split('-').map(|count| count.parse::<u32>().map(f64::from));
    let counts: [f64; 10] = counts.collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()?;
    counts.iter().any(|&count| count > 0.0).then_some(counts)
}

/// A row of train.csv: one epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TrainRow {
    pub epoch: usize,
    pub step: usize,
    pub images: u64,
    pub lr: f64,
    pub train_loss: f64,
    /// On the noised test set, with the average of the weights.
    pub test_loss: f64,
    pub images_per_second: f64,
    pub seconds: f64,
}

/// run.json: what made a run and how it went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunRecord {
    /// Of this file and of the CSVs beside it.
    pub schema_version: u32,
    /// The experiment's name, as its folder under results/ has it.
    pub experiment: String,
    /// The run's name: that of its folder.
    pub run: String,
    /// As it was typed.
    pub command_line: Vec<String>,
    /// Every option, after the preset filled in what was not given.
    pub options: serde_json::Value,
    /// Where it was begun, seen from its folder: the paths of the command line begin there.
    #[serde(default)]
    pub working_folder: Option<String>,
    /// The run's seed.
    pub seed: u64,
    /// The commit of the program, with `-dirty` behind it where files differed.
    pub git_revision: String,
    /// Versions of what matters, by name.
    pub versions: BTreeMap<String, String>,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended; nothing while it runs or after it was stopped.
    pub finished: Option<String>,
    /// When and how it was gone on with after a stop; what else is here says how it began.
    #[serde(default)]
    pub resumed: Vec<Session>,
    /// Seconds by phase, over all sessions; those of a phase that was killed are not known.
    pub seconds: BTreeMap<String, f64>,
    /// Threads on the CPU.
    pub threads: usize,
    /// Where it computed.
    pub device: String,
    /// The processor's name.
    pub cpu: String,
    /// Where the data was found.
    pub data_source: String,
    /// SHA-256 that names the data.
    pub data_sha256: String,
    /// SHA-256 of the classifier's weights.
    pub classifier_sha256: String,
    /// SHA-256 of the sampled model's weights, once there are any.
    pub checkpoint_sha256: Option<String>,
    /// Models of other experiments that it uses, by the experiment's name.
    #[serde(default)]
    pub models: BTreeMap<String, OtherModel>,
    /// Numbers in the model.
    pub parameters: usize,
    /// The experiment's own figures by name.
    pub figures: BTreeMap<String, f64>,
}

/// A part of a run, from its begin or a resumption to its end or the next stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When it began, RFC 3339.
    pub started: String,
    /// The commit, as in [`RunRecord`].
    pub git_revision: String,
    /// Threads on the CPU.
    pub threads: usize,
    /// Where it computed.
    pub device: String,
    /// The processor's name.
    pub cpu: String,
}

/// A model that another run made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherModel {
    /// Its folder.
    pub folder: String,
    /// SHA-256 of its weights.
    pub sha256: String,
}

impl RunRecord {
    /// The preset's name, where the record says it.
    pub fn preset(&self) -> Option<&str> {
        ["preset", "settings"].iter().find_map(|key| {
            let value = &self.options[*key];
            value.as_str().or_else(|| value["preset"].as_str())
        })
    }

    /// The session under way, or the last one.
    pub fn session(&self) -> Session {
        self.resumed.last().cloned().unwrap_or_else(|| Session {
            started: self.started.clone(),
            git_revision: self.git_revision.clone(),
            threads: self.threads,
            device: self.device.clone(),
            cpu: self.cpu.clone(),
        })
    }

    /// Reads the run.json of the run's folder `run`.
    ///
    /// # Errors
    /// When there is none, it is damaged, or it is of a newer version than this program.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join("run.json");
        let record: Self = read_json(&path)?;
        ensure!(
            record.schema_version <= SCHEMA_VERSION,
            "{} is of schema version {}; this program knows up to {SCHEMA_VERSION}: use a newer one",
            path.display(),
            record.schema_version
        );
        for text in [&record.experiment, &record.run, &record.git_revision, &record.started] {
            check_text(text).with_context(|| format!("{} is damaged", path.display()))?;
        }
        Ok(record)
    }
}
