//! The 22_no_t notebook: diffusion without telling the model the time.

mod along;
mod ddim;
mod options;

use along::Trace;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use ddim::{DdimSetting, EpsModel, draw_ddim};
use elucidate_lab::evaluate::draw::Described;
use elucidate_lab::evaluate::model_card::model_card;
use elucidate_lab::evaluate::nearest::nearest_training_images;
use elucidate_lab::evaluate::score::{Keep, Table};
use elucidate_lab::run::Run;
use elucidate_lab::run::options::NoOwnOptions;
use elucidate_lab::run::program::CommandLine;
use elucidate_lab::train::model;
use elucidate_lab::train::noise_level::NoiseLevelModel;
use elucidate_lab::train::objective::{Choices, Objective};
use elucidate_report::SampleRow;
use options::{Options, PIXELS, clamped_within, mended, not_clamped, plain, variants, x0_within};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    elucidate_lab::run::program::main(elucidate_lab::git_revision!(), run)
}

fn run(options: &Options) -> Result<()> {
    options.check()?;
    let (cosine_dir, noise_pred_dir) = options.models()?;
    model::check_other(&cosine_dir, "22_cosine", "--cosine")?;
    NoiseLevelModel::load(&noise_pred_dir, &Device::Cpu)
        .with_context(|| format!("--noise-pred {}", noise_pred_dir.display()))?;
    model::check_checkpoint(&options.run, Options::EXPERIMENT, &NoOwnOptions {})?;
    let (mut run, own) = Run::begin(&options.run, Options::EXPERIMENT, NoOwnOptions {}, |_| ())?;
    let steps = options.steps(run.settings.preset);

    // The models of the other two notebooks: one is told the time, one reads the noise level off the image.
    let cosine = model::load_other(&mut run, &cosine_dir, "22_cosine", "--cosine")?;
    let reader = NoiseLevelModel::load_other(&mut run, &noise_pred_dir)
        .with_context(|| format!("--noise-pred {}", noise_pred_dir.display()))?;
    let estimator = |x: &Tensor| reader.forward(x);

    // This notebook's model: trained as 22_cosine's was, but t is always 0.
    let told = Objective::new(&run, Choices::lesson_eps(true));
    let not_told = Objective::new(&run, Choices::lesson_eps(false));
    let (_, no_t) = model::obtain(&mut run, &options.run, &own, &not_told)?;
    model_card(&run, &not_told.choices.preconditioning)?;
    run.phase("losses on the same test noise", |run| {
        run.figure("test loss without t", not_told.test_loss(&no_t)?);
        run.figure("test loss of 22_cosine's model, with t", told.test_loss(&cosine)?);
        Ok(())
    })?;

    // Sampling: with t, without t (the failure), without t but with estimates of the noise level (the fix).
    let with_t = |x: &Tensor, t: &Tensor| cosine.forward(x, t);
    let without_t = |x: &Tensor, t: &Tensor| no_t.forward(x, &t.zeros_like()?);
    let batches = run.batches.clone();
    let with_t = EpsModel { network: &with_t, estimator: Some(&estimator), batches: &batches };
    let without_t = EpsModel { network: &without_t, estimator: Some(&estimator), batches: &batches };
    let mut table = Table::begin(&mut run, None)?;
    let keep = Keep { picture: true, samples: options.run.save_samples };
    let sample = |run: &Run, table: &mut Table, model: EpsModel, setting: DdimSetting, n: usize| {
        table.sample(run, &setting, n, keep, |streams, progress| {
            draw_ddim(model, &setting, streams, n, progress, &mut |_| Ok(()))
        })
    };
    let sample_told = |run: &Run, table: &mut Table, setting: DdimSetting, n: usize| {
        table.sample(run, &OfCosine(setting), n, keep, |streams, progress| {
            draw_ddim(with_t, &setting, streams, n, progress, &mut |_| Ok(()))
        })
    };
    run.phase("DDIM", |run| {
        let n = run.settings.scoring.samples;
        sample_told(run, &mut table, plain(steps), n)?;
        sample_told(run, &mut table, x0_within(PIXELS, plain(steps)), n)?;
        sample(run, &mut table, without_t, plain(steps), n)?;
        sample(run, &mut table, without_t, x0_within(PIXELS, plain(steps)), n)?;
        sample(run, &mut table, without_t, mended(steps, 1.0), n)?;
        sample(run, &mut table, without_t, clamped_within(steps, 1.1), n)?;
        sample(run, &mut table, without_t, x0_within(PIXELS, mended(steps, 1.0)), n)
    })?;
    nearest_training_images(&mut run, |run, n| {
        Ok(draw_ddim(without_t, &plain(steps), &run.streams, n, &|_| (), &mut |_| Ok(()))?.images)
    })?;
    run.phase("variants of the fix", |run| {
        let n = run.settings.scoring.samples.div_ceil(4).max(8);
        variants(steps).into_iter().try_for_each(|setting| sample(run, &mut table, without_t, setting, n))?;
        // Whose fault it is where the fix fails: the same estimates for the model that is told the time.
        sample_told(run, &mut table, mended(steps, 1.0), n)
    })?;

    // Along the way: what is expected of the image, how much noise is left, how far the pixels stray.
    run.phase("along the way", |run| {
        let scorer = Some(table.scorer());
        let traces = [
            Trace::of(run, "with t", with_t, plain(steps), scorer)?,
            Trace::of(run, "without t, plain", without_t, plain(steps), scorer)?,
            Trace::of(run, "without t, mended", without_t, mended(steps, 1.0), scorer)?,
            Trace::of(run, "without t, not clamped", without_t, not_clamped(steps), None)?,
        ];
        along::draw(run, &traces)?;
        along::read_off_brightened(run, without_t)
    })?;
    table.finish(&run)?;
    model_card(&run, &not_told.choices.preconditioning)?;
    run.finish()
}

/// A setting of the model that is told the time, among those that are not.
struct OfCosine(DdimSetting);

impl Described for OfCosine {
    fn describe(&self, row: &mut SampleRow) {
        self.0.describe(row);
        let estimated = row.variant.take().map_or_else(String::new, |variant| format!(", {variant}"));
        row.variant = Some(format!("with t{estimated}"));
    }

    fn file_name(&self) -> String {
        format!("{}_with_t", self.0.file_name())
    }
}
