//! Scoring samples, and the table that the scores go into.

use crate::run::Run;
use crate::sampling::Setting;
use anyhow::Result;
use candle_core::Tensor;
use elucidate_metrics::{Classifier, Features, Moments, Reference, kid_chunks, kid_subsets};
use elucidate_report::{SampleRow, write_csv};
use elucidate_samplers::Sampler;
use std::time::Duration;

/// Subsets of KID and their size, as torch-fidelity has them.
const SUBSETS: usize = 100;
const SUBSET_SIZE: usize = 1000;

/// Scores images against the real test images.
#[derive(Debug)]
pub struct Scorer {
    classifier: Classifier,
    real: Features,
    reference: Reference,
}

/// How close a set of images comes to the real ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Fréchet distance of the features.
    pub fid: f64,
    /// Kernel distance of the features, over random subsets.
    pub kid: f64,
    /// Its standard error over the subsets.
    pub kid_std_err: f64,
    /// Kernel distance over contiguous chunks, the notebook's way.
    pub kid_chunks: f64,
}

impl Scorer {
    /// Against the images `real` (n, 1, 32, 32) in [−1, 1].
    ///
    /// # Errors
    /// When the features cannot be computed.
    pub fn new(classifier: Classifier, real: &Tensor) -> Result<Self> {
        let real = classifier.features(real)?;
        let reference = Reference::new(Moments::of(&real))?;
        Ok(Self { classifier, real, reference })
    }

    /// Scores `images` (n, 1, 32, 32) in [−1, 1], at least 8; KID's subsets are drawn from `seed`.
    ///
    /// # Errors
    /// When there are too few images, or their features are not finite.
    pub fn score(&self, images: &Tensor, seed: u64) -> Result<Score> {
        let fake = self.classifier.features(images)?;
        let size = SUBSET_SIZE.min(fake.samples()).min(self.real.samples());
        let kid = kid_subsets(&self.real, &fake, SUBSETS, size, seed)?;
        Ok(Score {
            fid: self.reference.fid(&Moments::of(&fake))?,
            kid: kid.mean,
            kid_std_err: kid.std_err,
            kid_chunks: kid_chunks(&self.real, &fake)?,
        })
    }
}

/// samples.csv: a row for each set of images that was scored, written anew with each.
#[derive(Debug)]
pub struct Table {
    rows: Vec<SampleRow>,
    sigma_data: Option<f64>,
}

impl Table {
    /// An empty one; `sigma_data` is that of the model's preconditioning, where it has any.
    pub fn new(sigma_data: Option<f64>) -> Self {
        Self { rows: vec![], sigma_data }
    }

    /// Its rows.
    pub fn rows(&self) -> &[SampleRow] {
        &self.rows
    }

    /// Adds the score of `n` samples that took `time` to draw, and writes the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(
        &mut self,
        run: &Run,
        setting: &Setting,
        n: usize,
        score: Score,
        time: Duration,
    ) -> Result<()> {
        let mut row = self.row(run, setting.sampler.name(), n, score, time);
        row.steps = Some(setting.steps);
        row.nfe = Some(setting.nfe());
        row.rho = Some(setting.rho);
        row.sigma_min = Some(setting.sigma_min);
        row.sigma_max = Some(setting.sigma_max);
        match setting.sampler {
            Sampler::Euler => {}
            Sampler::EulerAncestral { eta } => row.eta = Some(eta),
            Sampler::Heun { churn } => row.s_churn = Some(churn.s_churn),
            Sampler::Lms { order } => row.order = Some(order),
        }
        self.push(run, row)
    }

    /// Adds the score of `n` images that no sampler made, under `name`, and writes the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_real(&mut self, run: &Run, name: &str, n: usize, score: Score) -> Result<()> {
        let row = self.row(run, name, n, score, Duration::ZERO);
        self.push(run, row)
    }

    fn push(&mut self, run: &Run, row: SampleRow) -> Result<()> {
        self.rows.push(row);
        write_csv(&run.folder.path("samples.csv"), &self.rows)
    }

    fn row(&self, run: &Run, sampler: &str, n: usize, score: Score, time: Duration) -> SampleRow {
        let (settings, record) = (&run.settings, &run.record);
        let blocks: Vec<String> = settings.blocks.iter().map(usize::to_string).collect();
        SampleRow {
            experiment: record.experiment.clone(),
            run: record.run.clone(),
            sampler: sampler.to_string(),
            steps: None,
            nfe: None,
            rho: None,
            sigma_min: None,
            sigma_max: None,
            eta: None,
            s_churn: None,
            order: None,
            seed: settings.seed,
            n,
            fid: score.fid,
            kid: score.kid,
            seconds: time.as_secs_f64(),
            kid_std_err: score.kid_std_err,
            kid_chunks: score.kid_chunks,
            n_real: settings.test_images,
            preset: settings.preset.name().to_string(),
            epochs: settings.epochs,
            batch_size: settings.batch_size,
            blocks: blocks.join("-"),
            parameters: record.parameters,
            sigma_data: self.sigma_data,
            data_sha256: record.data_sha256.clone(),
            classifier_sha256: record.classifier_sha256.clone(),
            checkpoint_sha256: record.checkpoint_sha256.clone().unwrap_or_default(),
            git_revision: record.git_revision.clone(),
            device: record.device.clone(),
            threads: record.threads,
        }
    }
}
