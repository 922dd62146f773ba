//! Scoring samples, and the table that the scores go into.

use crate::pictures::sample_grid;
use crate::progress::bar;
use crate::run::Run;
use crate::sampling::Described;
use crate::yardsticks;
use anyhow::{Context, Result};
use candle_core::Tensor;
use elucidate_core::data::PixelRange;
use elucidate_core::rng::Streams;
use elucidate_metrics::{
    CLASSES, Classifier, DensityCoverage, Features, FidByN, Judged, Kid, Moments, NEAREST, Neighbourhoods,
    RESAMPLES, Reference, class_counts, fid_std_err, kid_chunks, kid_subsets,
};
use elucidate_report::{Estimate, Figure, SampleRow, Series, Summary, draw_samples, save_curves, write_csv};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    /// By the number of real images that they are of.
    neighbourhoods: BTreeMap<usize, Neighbourhoods>,
}

/// How far a set of images is from the real ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distances {
    /// Fréchet distance of the features.
    pub fid: f64,
    /// Kernel distance of the features, over random subsets.
    pub kid: Kid,
    /// Kernel distance over contiguous chunks, the notebook's way.
    pub kid_chunks: f64,
}

/// All that is known of a set of images.
#[derive(Debug, Clone)]
struct Score {
    distances: Distances,
    fid_std_err: f64,
    near: DensityCoverage,
    classes: [usize; CLASSES.len()],
    features: Features,
}

impl Scorer {
    /// Against the images `real` (n, 1, 32, 32) in [−1, 1].
    ///
    /// # Errors
    /// When the features cannot be computed.
    pub fn new(classifier: Classifier, real: &Tensor) -> Result<Self> {
        let real = classifier.features(real)?;
        let reference = Reference::new(Moments::of(&real))?;
        Ok(Self { classifier, real, reference, neighbourhoods: BTreeMap::new() })
    }

    /// FID and KID of `images` (n, 1, 32, 32) in [−1, 1], at least 8; KID's subsets are drawn from `seed`.
    ///
    /// # Errors
    /// When there are too few images, or their features are not finite.
    pub fn distances(&self, images: &Tensor, seed: u64) -> Result<Distances> {
        self.distances_of(&self.classifier.features(images)?, seed)
    }

    fn distances_of(&self, fake: &Features, seed: u64) -> Result<Distances> {
        let size = SUBSET_SIZE.min(fake.samples()).min(self.real.samples());
        Ok(Distances {
            fid: self.reference.fid(&Moments::of(fake))?,
            kid: kid_subsets(&self.real, fake, SUBSETS, size, seed)?,
            kid_chunks: kid_chunks(&self.real, fake)?,
        })
    }

    fn score(&mut self, images: &Tensor, seed: u64) -> Result<Score> {
        let Judged { features, classes } = self.classifier.judge(images)?;
        let n = features.samples().min(self.real.samples());
        let neighbourhoods = match self.neighbourhoods.entry(n) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Neighbourhoods::new(&self.real.first(n)?, NEAREST)?),
        };
        Ok(Score {
            near: neighbourhoods.density_and_coverage(&features)?,
            distances: self.distances_of(&features, seed)?,
            fid_std_err: fid_std_err(&self.reference, &features, RESAMPLES, seed)?,
            classes: class_counts(&classes),
            features,
        })
    }
}

/// samples.csv: a row for each set of images that was scored, written anew with each.
#[derive(Debug)]
pub struct Table {
    scorer: Scorer,
    sigma_data: Option<f64>,
    rows: Vec<SampleRow>,
    /// FID over 1/n of each setting's first seed, above its FID∞, where that is asked for.
    fid_by_n: Vec<Series>,
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
        let mut table = Self { scorer, sigma_data, rows: vec![], fid_by_n: vec![] };
        run.phase("floor and yardsticks", |run| {
            let n = run.settings.samples;
            let yardsticks = |seed| table.add_real(run, &yardsticks::all(run, n, seed)?, seed);
            run.settings.sampling_seeds().try_for_each(yardsticks)
        })?;
        Ok(table)
    }

    /// What scores its samples.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Draws `n` samples of each seed with a setting, scores them and adds their rows, and the floor's for as many images
    /// where it is not yet there. `draw` is given a seed's random streams and a function to tell of images as they are
    /// done.
    ///
    /// # Errors
    /// When the samples cannot be drawn or scored, or a file cannot be written.
    pub fn sample(
        &mut self,
        run: &Run,
        setting: &impl Described,
        n: usize,
        keep: Keep,
        draw: impl Fn(&Streams, &(dyn Fn(usize) + Sync)) -> Result<Tensor>,
    ) -> Result<()> {
        if !self.rows.iter().any(|row| row.sampler == "real" && row.n == n) {
            for seed in run.settings.sampling_seeds() {
                self.add_real(run, &[("real", yardsticks::real(run, n, seed)?)], seed)?;
            }
        }
        for seed in run.settings.sampling_seeds() {
            let first = seed == run.settings.seed;
            let (name, file) = match first {
                true => (setting.label(), setting.file_name()),
                false => (
                    format!("{}, seed {seed}", setting.label()),
                    format!("{}_seed_{seed}", setting.file_name()),
                ),
            };
            let progress = bar(&name, n as u64);
            let start = Instant::now();
            let samples = draw(&Streams::new(seed), &|images| progress.inc(images as u64))?;
            let seconds = start.elapsed().as_secs_f64();
            progress.finish_and_clear();
            let mut row = SampleRow { seconds, ..SampleRow::default() };
            setting.describe(&mut row);
            self.add(run, row, &samples, seed)?;
            if keep.picture && first {
                sample_grid(&run.folder.path(format!("samples_{file}.png")), &samples)?;
            }
            if keep.samples {
                save_samples(run, &file, &samples)?;
            }
        }
        Ok(())
    }

    /// Draws the charts of all rows and writes a table of them to the log.
    ///
    /// # Errors
    /// When a chart cannot be written.
    pub fn finish(&self, run: &Run) -> Result<()> {
        draw_samples(run.folder.root())?;
        if !self.fid_by_n.is_empty() {
            save_curves(run.folder.root(), "fid_by_n", &self.fid_by_n)?;
        }
        info!("{:<32} {:>6} {:>6} {:>5} {:>18} {:>20}", "setting", "n", "seeds", "nfe", "FID", "KID");
        let with_error = |Estimate { mean, std_err }: Estimate, digits: usize| {
            let error = std_err.map_or_else(String::new, |error| format!(" ± {error:.digits$}"));
            format!("{mean:.digits$}{error}")
        };
        for summary in Summary::all(&self.rows) {
            let row = summary.first();
            let nfe = row.nfe.map_or_else(|| "-".to_string(), |nfe| nfe.to_string());
            let (fid, kid) = (summary.figure(Figure::Fid), summary.figure(Figure::Kid));
            info!(
                "{:<32} {:>6} {:>6} {nfe:>5} {:>18} {:>20}",
                row.label(),
                row.n,
                summary.seeds(),
                with_error(fid, 2),
                with_error(kid, 5)
            );
        }
        Ok(())
    }

    /// Scores images that no sampler made and adds their rows under their names.
    fn add_real(&mut self, run: &Run, sets: &[(&str, Tensor)], seed: u64) -> Result<()> {
        for (name, images) in sets {
            let row = SampleRow { sampler: (*name).to_string(), ..SampleRow::default() };
            self.add(run, row, images, seed)?;
        }
        Ok(())
    }

    /// Scores images and adds their row, of which `described` has the setting.
    fn add(&mut self, run: &Run, described: SampleRow, images: &Tensor, seed: u64) -> Result<()> {
        let score = self.scorer.score(images, seed)?;
        let mut row = self.row(run, described, &score, seed);
        let label = row.label();
        if run.settings.fid_infinity {
            let by_n = FidByN::new(&self.scorer.reference, &score.features, seed)?;
            row.fid_infinity = Some(by_n.infinity);
            let yardstick = row.is_real() && row.sampler != "real";
            if seed == run.settings.seed && row.n == run.settings.samples && !yardstick {
                let points = by_n.points.iter().map(|&(n, fid)| (1.0 / n as f64, fid - by_n.infinity));
                let points = [(0.0, 0.0)].into_iter().chain(points).collect();
                self.fid_by_n.push(Series::line(label.clone(), points));
            }
        }
        let (fid, kid, error) = (row.fid, row.kid, score.fid_std_err);
        let evaluations = row.nfe.map_or_else(String::new, |nfe| format!(", {nfe} evaluations"));
        info!(
            "{label}, seed {seed}: FID {fid:.2} ± {error:.2}, KID {kid:.5}{evaluations}, {:.0} s",
            row.seconds
        );
        self.rows.push(row);
        write_csv(&run.folder.path("samples.csv"), &self.rows)
    }

    fn row(&self, run: &Run, described: SampleRow, score: &Score, seed: u64) -> SampleRow {
        let (settings, record) = (&run.settings, &run.record);
        let join = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join("-");
        SampleRow {
            experiment: record.experiment.clone(),
            run: record.run.clone(),
            seed,
            n: score.features.samples(),
            fid: score.distances.fid,
            kid: score.distances.kid.mean,
            kid_std_err: score.distances.kid.std_err,
            kid_chunks: score.distances.kid_chunks,
            n_real: settings.test_images,
            preset: settings.preset.name().to_string(),
            epochs: settings.epochs,
            batch_size: settings.batch_size,
            blocks: join(&settings.blocks),
            parameters: record.parameters,
            sigma_data: self.sigma_data,
            data_sha256: record.data_sha256.clone(),
            classifier_sha256: record.classifier_sha256.clone(),
            checkpoint_sha256: record.checkpoint_sha256.clone().unwrap_or_default(),
            git_revision: record.git_revision.clone(),
            device: record.device.clone(),
            threads: record.threads,
            fid_std_err: Some(score.fid_std_err),
            density: Some(score.near.density),
            coverage: Some(score.near.coverage),
            classes: Some(join(&score.classes)),
            ..described
        }
    }
}

/// Writes all of a setting's samples to samples/FILE.safetensors.
fn save_samples(run: &Run, file: &str, samples: &Tensor) -> Result<()> {
    let folder = run.folder.path("samples");
    let path = folder.join(format!("{file}.safetensors"));
    let saved = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(&folder).with_context(saved)?;
    samples.save_safetensors("samples", &path).with_context(saved)
}
