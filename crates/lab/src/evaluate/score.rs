//! Scoring samples, and the table that the scores go into.

use crate::evaluate::draw::{Described, Drawn};
use crate::evaluate::pictures::sample_grid;
use crate::evaluate::yardsticks;
use crate::run::Run;
use crate::run::interrupt;
use crate::run::options::TrainingSettings;
use crate::run::progress::bar;
use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use elucidate_core::data::PixelRange;
use elucidate_core::rng::Streams;
use elucidate_metrics::{
    CLASSES, Classifier, DensityCoverage, Features, FidByN, Judged, Kid, Moments, NEAREST, Neighbourhoods,
    RESAMPLES, Reference, Resampled, class_counts, kid_chunks, kid_subsets,
};
use elucidate_report::{
    EventFile, Figure, Resamples, SampleRow, ScoredRun, Series, Summary, draw_samples, label_among,
    read_curves, save_curves, unknown_columns, write_atomically, write_csv, write_resamples,
};
use rand::seq::index;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;
use tracing::info;

/// Subsets of KID and their size, as torch-fidelity has them.
const SUBSETS: usize = 100;
const SUBSET_SIZE: usize = 1000;

const TABLE: &str = "samples.csv";
const FID_BY_N: &str = "fid_by_n";

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
    resampled: Resampled,
    near: DensityCoverage,
    classes: [usize; CLASSES.len()],
    features: Features,
}

impl Scorer {
    /// Against the first test images of a run, as many as its settings say, with its classifier.
    ///
    /// # Errors
    /// When the features cannot be computed.
    pub(crate) fn of_run(run: &Run) -> Result<Self> {
        let indices: Vec<usize> = (0..run.settings.scoring.test_images).collect();
        let images = run.data.test.batch(&indices, PixelRange::SIGNED, &run.device)?;
        let classifier = run.classifier.clone();
        let real = classifier.features(&images)?;
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

    /// FID alone of `images` (n, 1, 32, 32) in [−1, 1], at least 2.
    ///
    /// # Errors
    /// When their features are not finite.
    pub fn fid(&self, images: &Tensor) -> Result<f64> {
        Ok(self.reference.fid(&Moments::of(&self.classifier.features(images)?))?)
    }

    /// What it does to the floor that the classifier has seen the training images: FID of images `training`, and of as many of one
    /// half of the test images as there are, both against the other half, which `seed` draws.
    fn floors_of_halves(&self, training: &Tensor, seed: u64) -> Result<[f64; 2]> {
        let n = self.real.samples();
        let mixed = index::sample(&mut Streams::new(seed).stream("halves", 0), n, n).into_vec();
        let (one, other) = mixed.split_at(n / 2);
        let held_out = self.real.select(&one[..one.len().min(training.dim(0)?)])?;
        let training = self.classifier.features(&training.narrow(0, 0, held_out.samples())?)?;
        let reference = Reference::new(Moments::of(&self.real.select(other)?))?;
        Ok([reference.fid(&Moments::of(&training))?, reference.fid(&Moments::of(&held_out))?])
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
            resampled: Resampled::new(&self.reference, &self.real, &features, RESAMPLES, seed)?,
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
    events: EventFile,
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
        let scorer = run.phase("features of the test images", |run| Scorer::of_run(run))?;
        // All rows are told of again: nothing that an earlier session told counts.
        let events = EventFile::begin(&run.folder.path("tensorboard/samples"), 0)?;
        let mut table = Self { scorer, sigma_data, rows: vec![], fid_by_n: vec![], events };
        if run.is_resumed() {
            table.take_over(run)?;
            table.rows.iter().try_for_each(|row| log_scores(&mut table.events, run, row))?;
        }
        run.phase("floor and yardsticks", |run| {
            let (n, seed) = (run.settings.scoring.samples, run.settings.seed);
            run.settings.sampling_seeds().try_for_each(|seed| {
                yardsticks::NAMES.iter().try_for_each(|name| table.add_real(run, name, n, seed))
            })?;
            let training = yardsticks::draw(run, "real", n, seed)?;
            let [training, held_out] = table.scorer.floors_of_halves(&training, seed)?;
            run.figure("FID of training images against half of the test images", training);
            run.figure("FID of the other half against it", held_out);
            Ok(())
        })?;
        Ok(table)
    }

    /// Takes over the rows that the run had before it was stopped.
    fn take_over(&mut self, run: &Run) -> Result<()> {
        let (table, by_n) = (run.folder.path(TABLE), run.folder.path(format!("{FID_BY_N}.csv")));
        if table.exists() {
            let unknown = unknown_columns::<SampleRow>(&table)?;
            if !unknown.is_empty() {
                let kept = run.folder.path("samples_before_resume.csv");
                std::fs::copy(&table, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
                info!("{TABLE} is written without {}: {} has all of it", unknown.join(", "), kept.display());
            }
            self.rows = ScoredRun::read(run.folder.root())?.rows;
        }
        let ours = run.record.checkpoint_sha256.clone().unwrap_or_default();
        if let Some(row) = self.rows.iter().find(|row| row.checkpoint_sha256 != ours) {
            bail!(
                "{} has samples of the model {}, this one is {ours}: delete it to sample anew",
                table.display(),
                row.checkpoint_sha256
            );
        }
        if by_n.exists() {
            self.fid_by_n = read_curves(&by_n)?;
        }
        if !self.rows.is_empty() {
            info!("{} rows are there already", self.rows.len());
        }
        Ok(())
    }

    /// Whether there is a row of this setting, number of samples and seed.
    fn has(&self, setting: &SampleRow, n: usize, seed: u64) -> bool {
        let same = |row: &SampleRow| row.n == n && row.seed == seed && row.setting() == setting.setting();
        self.rows.iter().any(same)
    }

    /// What scores its samples.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Draws `n` samples of each seed with a setting, scores them and adds their rows, and the floor's for as many images;
    /// what is there already is left as it is. `draw` is given a seed's random streams and a function to tell of images as
    /// they are done.
    ///
    /// # Errors
    /// When the samples cannot be drawn or scored, a file cannot be written, or the run was asked to stop.
    pub fn sample(
        &mut self,
        run: &Run,
        setting: &impl Described,
        n: usize,
        keep: Keep,
        draw: impl Fn(&Streams, &(dyn Fn(usize) + Sync)) -> Result<Drawn>,
    ) -> Result<()> {
        let mut described = SampleRow::default();
        setting.describe(&mut described);
        for seed in run.settings.sampling_seeds() {
            self.add_real(run, "real", n, seed)?;
        }
        for seed in run.settings.sampling_seeds() {
            if self.has(&described, n, seed) {
                continue;
            }
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
            let drawn = draw(&Streams::new(seed), &|images| progress.inc(images as u64));
            let Drawn { images: samples, nfe } = drawn.with_context(|| about(run, &name))?;
            let seconds = start.elapsed().as_secs_f64();
            progress.finish_and_clear();
            // The row comes last: what has one is whole.
            if keep.picture && first {
                sample_grid(&run.folder.path(format!("samples_{file}.png")), &samples)?;
            }
            if keep.samples {
                save_samples(run, &file, &samples)?;
            }
            self.add(run, SampleRow { seconds, nfe: Some(nfe), ..described.clone() }, &samples, seed)?;
        }
        Ok(())
    }

    /// Draws the charts of all rows and writes a table of them to the log.
    ///
    /// # Errors
    /// When a chart cannot be written.
    pub fn finish(&self, run: &Run) -> Result<()> {
        draw_samples(run.folder.root())?;
        info!("{:<32} {:>6} {:>6} {:>5} {:>18} {:>20}", "setting", "n", "seeds", "nfe", "FID", "KID");
        for summary in Summary::all(&self.rows) {
            let row = summary.first();
            let nfe = row.nfe.map_or_else(|| "-".to_string(), |nfe| nfe.to_string());
            let (fid, kid) = (summary.figure(Figure::Fid), summary.figure(Figure::Kid));
            info!(
                "{:<32} {:>6} {:>6} {nfe:>5} {:>18} {:>20}",
                row.label(),
                row.n,
                summary.seeds(),
                format!("{fid:.2}"),
                format!("{kid:.5}")
            );
        }
        Ok(())
    }

    /// Scores `n` of the real images `name`, whole or spoilt, drawn by `seed`, and adds their row where it is not yet there.
    fn add_real(&mut self, run: &Run, name: &str, n: usize, seed: u64) -> Result<()> {
        let row = SampleRow { sampler: name.to_string(), ..SampleRow::default() };
        if self.has(&row, n, seed) {
            return Ok(());
        }
        interrupt::check()?;
        self.add(run, row, &yardsticks::draw(run, name, n, seed)?, seed)
    }

    /// Scores images and adds their row, of which `described` has the setting.
    fn add(&mut self, run: &Run, described: SampleRow, images: &Tensor, seed: u64) -> Result<()> {
        let score = self.scorer.score(images, seed)?;
        let mut row = self.row(run, described, &score, seed);
        let label = row.label();
        if run.settings.scoring.fid_infinity {
            let by_n = FidByN::new(&self.scorer.reference, &score.features, seed)?;
            row.fid_infinity = Some(by_n.infinity);
            let yardstick = row.is_real() && row.sampler != "real";
            if seed == run.settings.seed && row.n == run.settings.scoring.samples && !yardstick {
                let points = by_n.points.iter().map(|&(n, fid)| (1.0 / n as f64, fid - by_n.infinity));
                let points = [(0.0, 0.0)].into_iter().chain(points).collect();
                // Killed between this chart and the row, the run had it already.
                self.fid_by_n.retain(|series| series.name != label);
                self.fid_by_n.push(Series::line(label.clone(), points));
                save_curves(run.folder.root(), FID_BY_N, &self.fid_by_n)?;
            }
        }
        let (fid, kid, error) = (row.fid, row.kid, score.resampled.fid_std_err());
        let evaluations = row.nfe.map_or_else(String::new, |nfe| format!(", {nfe} evaluations"));
        info!(
            "{label}, seed {seed}: FID {fid:.2} ± {error:.2}, KID {kid:.5}{evaluations}, {:.0} s",
            row.seconds
        );
        let as_f32 = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let Resampled { fid, kid } = &score.resampled;
        row.resamples = Some(Resamples { fid: as_f32(fid), kid: as_f32(kid) });
        log_scores(&mut self.events, run, &row)?;
        self.rows.push(row);
        // The table comes last: what has a row there is whole.
        write_resamples(run.folder.root(), &self.rows)?;
        write_csv(&run.folder.path(TABLE), &self.rows)
    }

    fn row(&self, run: &Run, described: SampleRow, score: &Score, seed: u64) -> SampleRow {
        let (settings, record, session) = (&run.settings, &run.record, run.record.session());
        let join = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join("-");
        SampleRow {
            experiment: record.experiment.clone(),
            run: record.run.clone(),
            seed,
            n: score.features.samples(),
            fid: score.distances.fid,
            kid: score.distances.kid.mean,
            kid_subsets_std_err: score.distances.kid.std_err,
            kid_chunks: score.distances.kid_chunks,
            n_real: settings.scoring.test_images,
            preset: settings.preset.name().to_string(),
            epochs: settings.training.epochs,
            batch_size: settings.training.batch_size,
            blocks: join(&settings.training.blocks),
            parameters: record.parameters,
            sigma_data: self.sigma_data,
            data_sha256: record.data_sha256.clone(),
            classifier_sha256: record.classifier_sha256.clone(),
            checkpoint_sha256: record.checkpoint_sha256.clone().unwrap_or_default(),
            git_revision: session.git_revision,
            device: session.device,
            threads: session.threads,
            fid_std_err: Some(score.resampled.fid_std_err()),
            kid_bootstrap_std_err: Some(score.resampled.kid_std_err()),
            density: Some(score.near.density),
            coverage: Some(score.near.coverage),
            classes: Some(join(&score.classes)),
            ..described
        }
    }
}

/// Writes a row's figures into the event file: each setting has its curve, over seeds.
fn log_scores(events: &mut EventFile, run: &Run, row: &SampleRow) -> Result<()> {
    let setting = label_among(&row.label(), row.n, run.settings.scoring.samples);
    let (fid, kid) = (format!("fid/{setting}"), format!("kid/{setting}"));
    events.scalars(row.seed as usize, &[(&fid, row.fid), (&kid, row.kid)])
}

/// What an error in sampling is about: the setting, and where its model comes from.
fn about(run: &Run, setting: &str) -> String {
    let TrainingSettings { lr, epochs, .. } = run.settings.training;
    let sha256 = run.record.checkpoint_sha256.as_deref().unwrap_or_default();
    format!("{setting} (model {}, --epochs {epochs} --lr {lr})", sha256.get(..12).unwrap_or(sha256))
}

/// Writes all of a setting's samples to samples/FILE.safetensors.
fn save_samples(run: &Run, file: &str, samples: &Tensor) -> Result<()> {
    let folder = run.folder.path("samples");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(format!("{file}.safetensors"));
    let bytes = safetensors::serialize([("samples", samples)], None)?;
    write_atomically(&path, &bytes)
}
