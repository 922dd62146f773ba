//! What a model draws while it is trained: a few samples at each epoch's end, and their FID where that is asked for.

use crate::evaluate::draw::draw;
use crate::evaluate::pictures::sample_grid;
use crate::evaluate::score::Scorer;
use crate::run::Run;
use crate::run::interrupt;
use crate::train::objective::Objective;
use anyhow::Result;
use candle_core::Tensor;
use elucidate_core::history::EpochRecord;
use elucidate_report::{EventFile, Series, create_dir, is_there, read_curves, save_curves};
use elucidate_samplers::{Denoiser, Preconditioned, Setting};
use std::fs;
use tracing::{info, warn};

/// Samples in a picture: those that the final pictures begin with, from the same noise.
const SHOWN: usize = 12;

/// Samples of a FID.
const SCORED: usize = 512;

const PICTURES: &str = "samples_by_epoch";
const FID_BY_EPOCH: &str = "fid_by_epoch";

/// Draws samples of a training's average after each of its epochs, always from the same noise.
pub(crate) struct Preview<'a> {
    run: &'a Run,
    setting: Setting,
    /// Made for the first FID.
    scorer: Option<Scorer>,
    /// (epoch, FID).
    fids: Vec<(f64, f64)>,
}

impl<'a> Preview<'a> {
    /// That of a training on `objective`.
    ///
    /// # Errors
    /// When the folder of its pictures cannot be made, or its FIDs of an earlier session are damaged.
    pub(crate) fn new(run: &'a Run, objective: &Objective) -> Result<Self> {
        let steps = run.settings.preset.steps(10);
        let setting = Setting::parse(&format!("heun steps={steps}"), &objective.choices.preconditioning)?;
        create_dir(&run.folder.path(PICTURES))?;
        let measured = run.folder.path(format!("{FID_BY_EPOCH}.csv"));
        let fids = match is_there(&measured) {
            true => read_curves(&measured)?.into_iter().flat_map(|series| series.points).collect(),
            false => vec![],
        };
        Ok(Self { run, setting, scorer: None, fids })
    }

    /// Draws samples with the model of `epoch`: into samples_by_epoch/ and the event file. Where a sample is not finite, a warning says
    /// so: the training's own numbers are.
    ///
    /// # Errors
    /// When a file cannot be written, or the run was asked to stop.
    pub(crate) fn after_epoch<N>(
        &mut self,
        epoch: &EpochRecord,
        denoiser: &Preconditioned<N>,
        events: &mut EventFile,
    ) -> Result<()>
    where
        Preconditioned<N>: Denoiser + Sync,
    {
        let run = self.run;
        let every = run.settings.scoring.fid_every;
        let is_scored = every > 0 && epoch.epoch.is_multiple_of(every);
        let n = if is_scored { SCORED } else { SHOWN };
        let samples = match draw(denoiser, &self.setting, &run.streams, n, &run.batches, &|_| ()) {
            Ok(drawn) => drawn.images,
            Err(error) => {
                interrupt::check()?;
                warn!("no samples after epoch {}, {}: {error:#}", epoch.epoch, self.setting);
                return Ok(());
            }
        };
        let path = run.folder.path(format!("{PICTURES}/epoch_{:04}.png", epoch.epoch));
        sample_grid(&path, &samples.narrow(0, 0, SHOWN)?)?;
        events.png("samples", epoch.step, fs::read(&path)?)?;
        if is_scored { self.score(epoch, &samples, events) } else { Ok(()) }
    }

    fn score(&mut self, epoch: &EpochRecord, samples: &Tensor, events: &mut EventFile) -> Result<()> {
        let scorer = match &mut self.scorer {
            Some(scorer) => scorer,
            none => none.insert(Scorer::of_run(self.run)?),
        };
        let fid = scorer.fid(samples)?;
        info!("epoch {}: FID {fid:.2} of {SCORED} samples, {}", epoch.epoch, self.setting);
        events.scalars(epoch.step, &[(&format!("fid/{SCORED} samples"), fid)])?;
        let at = epoch.epoch as f64;
        // Where training began anew from an older checkpoint, what came after has not happened.
        self.fids.retain(|point| point.0 < at);
        self.fids.push((at, fid));
        let series = Series::line(self.setting.to_string(), self.fids.clone());
        save_curves(self.run.folder.root(), FID_BY_EPOCH, &[series])
    }
}
