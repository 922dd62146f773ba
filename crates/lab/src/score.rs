//! Scoring samples, and the table that the scores go into.

use crate::pictures::sample_grid;
use crate::progress::bar;
use crate::run::Run;
use crate::sampling::Described;
use crate::yardsticks;
use anyhow::{Context, Result};
use candle_core::Tensor;
use elucidate_core::data::PixelRange;
use elucidate_metrics::{Classifier, Features, Moments, Reference, kid_chunks, kid_subsets};
use elucidate_report::{SampleRow, write_csv};
use std::time::Instant;
use tracing::info;

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
    scorer: Scorer,
    sigma_data: Option<f64>,
    rows: Vec<SampleRow>,
}

/// What is kept of a setting's samples, beside their row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// A picture of the first ones, samples_SETTING.png.
    pub picture: bool,
    /// All of them, samples/SETTING.safetensors.
    pub samples: bool,
}

impl Table {
    /// One with the rows of the floor and the yardsticks; `sigma_data` is that of the model's preconditioning, where it
    /// has any.
    ///
    /// # Errors
    /// When the real images cannot be scored, or a file cannot be written.
    pub fn begin(run: &mut Run, sigma_data: Option<f64>) -> Result<Self> {
        let scorer = run.phase("features of the test images", |run| {
            let indices: Vec<usize> = (0..run.settings.test_images).collect();
            let real = run.data.test.batch(&indices, PixelRange::SIGNED, &run.device)?;
            Scorer::new(run.classifier.clone(), &real)
        })?;
        let mut table = Self { scorer, sigma_data, rows: vec![] };
        run.phase("floor and yardsticks", |run| yardsticks::score(run, &mut table))?;
        Ok(table)
    }

    /// What scores its samples.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Its rows.
    pub fn rows(&self) -> &[SampleRow] {
        &self.rows
    }

    /// Draws `n` samples with a setting, scores them and adds their row. `draw` is given a function to tell of images as
    /// they are done.
    ///
    /// # Errors
    /// When the samples cannot be drawn or scored, or a file cannot be written.
    pub fn sample(
        &mut self,
        run: &Run,
        setting: &impl Described,
        n: usize,
        keep: Keep,
        draw: impl FnOnce(&(dyn Fn(usize) + Sync)) -> Result<Tensor>,
    ) -> Result<()> {
        let label = setting.label();
        let progress = bar(&label, n as u64);
        let start = Instant::now();
        let samples = draw(&|images| progress.inc(images as u64))?;
        let seconds = start.elapsed().as_secs_f64();
        progress.finish_and_clear();
        let score = self.scorer.score(&samples, run.settings.seed)?;
        let mut row = self.row(run, "", n, score, seconds);
        setting.describe(&mut row);
        let nfe = row.nfe.unwrap_or(0);
        info!("{label}: FID {:.2}, KID {:.5}, {nfe} evaluations, {seconds:.0} s", score.fid, score.kid);
        self.push(run, row)?;
        let file = setting.file_name();
        if keep.picture {
            sample_grid(&run.folder.path(format!("samples_{file}.png")), &samples)?;
        }
        if keep.samples {
            let folder = run.folder.path("samples");
            let path = folder.join(format!("{file}.safetensors"));
            let saved = || format!("cannot write {}", path.display());
            std::fs::create_dir_all(&folder).with_context(saved)?;
            samples.save_safetensors("samples", &path).with_context(saved)?;
        }
        Ok(())
    }

    /// Scores images that no sampler made and adds their row under `name`.
    ///
    /// # Errors
    /// When they cannot be scored or the file cannot be written.
    pub fn add_real(&mut self, run: &Run, name: &str, images: &Tensor) -> Result<()> {
        let score = self.scorer.score(images, run.settings.seed)?;
        info!("{name}: FID {:.2}, KID {:.5}", score.fid, score.kid);
        self.push(run, self.row(run, name, images.dim(0)?, score, 0.0))
    }

    /// Writes all rows to the log, as a table.
    pub fn log(&self) {
        info!(
            "{:<20} {:>6} {:>5} {:>6} {:>5} {:>8} {:>9}",
            "sampler", "steps", "nfe", "rho", "eta", "FID", "KID"
        );
        let cell = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
        for row in &self.rows {
            let [steps, nfe] = [row.steps, row.nfe].map(|value| cell(value.map(|v| v.to_string())));
            let [rho, eta] = [row.rho, row.eta].map(|value| cell(value.map(|v| v.to_string())));
            let SampleRow { sampler, fid, kid, .. } = row;
            let variant = row.variant.as_deref().unwrap_or_default();
            info!("{sampler:<20} {steps:>6} {nfe:>5} {rho:>6} {eta:>5} {fid:>8.2} {kid:>9.5} {variant}");
        }
    }

    fn push(&mut self, run: &Run, row: SampleRow) -> Result<()> {
        self.rows.push(row);
        write_csv(&run.folder.path("samples.csv"), &self.rows)
    }

    fn row(&self, run: &Run, sampler: &str, n: usize, score: Score, seconds: f64) -> SampleRow {
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
            seconds,
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
            variant: None,
        }
    }
}
