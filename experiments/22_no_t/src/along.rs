//! What happens along the reverse process.

use crate::ddim::{DdimSetting, DdimStep, EpsModel, draw_ddim, to_signed};
use anyhow::Result;
use candle_core::Tensor;
use elucidate_core::data::PixelRange;
use elucidate_lab::evaluate::draw::GROUP;
use elucidate_lab::evaluate::figures::quantile;
use elucidate_lab::evaluate::score::Scorer;
use elucidate_lab::run::Run;
use elucidate_lab::train::images::{Images, numbers};
use elucidate_report::{Series, save_curves};
use elucidate_samplers::TrainingBatch;
use elucidate_schedules::{Preconditioning, sigma_of_alpha_bar};

/// x̂₀ is scored at every step that this divides, and at the last.
const SCORED_EVERY: usize = 4;

/// What was seen along the way of the first group of images.
pub struct Trace {
    name: &'static str,
    /// The schedule's ᾱ by step.
    alpha_bars: Vec<f64>,
    /// 5 %, median and 95 % of what the noise-level model reads off x_t, by step.
    read: Vec<[f64; 3]>,
    /// Images of which less than half of the median is read off, by step: the clamp holds them.
    held: Vec<f64>,
    /// The smallest and the largest value of x_t, by step.
    extremes: Vec<(f64, f64)>,
    /// Step, FID and KID of x̂₀.
    scores: Vec<(usize, f64, f64)>,
}

impl Trace {
    /// Of a model that is sampled so; where there is a scorer, x̂₀ is scored along the way.
    pub fn of(
        run: &Run,
        name: &'static str,
        model: EpsModel,
        setting: DdimSetting,
        scorer: Option<&Scorer>,
    ) -> Result<Self> {
        let n = run.settings.scoring.samples.min(GROUP);
        let last = setting.steps - 1;
        let mut trace =
            Self { name, alpha_bars: vec![], read: vec![], held: vec![], extremes: vec![], scores: vec![] };
        let mut expected = vec![];
        let mut observe = |step: DdimStep| -> candle_core::Result<()> {
            let value = |t: Tensor| -> candle_core::Result<f64> { Ok(f64::from(t.to_scalar::<f32>()?)) };
            trace.alpha_bars.push(step.alpha_bar);
            trace.extremes.push((value(step.x.min_all()?)?, value(step.x.max_all()?)?));
            // Plain DDIM asks for no estimates: they are made here.
            let read = match step.estimates {
                [] => model.estimates(step.x)?,
                estimates => estimates.to_vec(),
            };
            let quantiles = [0.05, 0.5, 0.95].map(|share| quantile(&read, share));
            trace.read.push(quantiles);
            let held = read.iter().filter(|&&a| a < quantiles[1] / 2.0).count();
            trace.held.push(held as f64 / read.len() as f64);
            if scorer.is_some() && (step.index.is_multiple_of(SCORED_EVERY) || step.index == last) {
                expected.push((step.index, to_signed(step.x0)?.clamp(-1.0, 1.0)?));
            }
            Ok(())
        };
        draw_ddim(model, &setting, &run.streams, n, &|_| (), &mut observe)?;
        if let Some(scorer) = scorer {
            for (index, images) in expected {
                let distances = scorer.distances(&images, run.settings.seed)?;
                trace.scores.push((index, distances.fid, distances.kid.mean));
            }
        }
        Ok(trace)
    }

    fn line(&self, name: String, values: impl Iterator<Item = f64>) -> Series {
        let points = values.enumerate().map(|(i, y)| (i as f64, y)).filter(|(_, y)| y.is_finite());
        Series::line(name, points.collect())
    }
}

/// The charts of several traces, each with its numbers.
pub fn draw(run: &Run, traces: &[Trace]) -> Result<()> {
    let save = |name: &str, series: Vec<Series>| save_curves(run.folder.root(), name, &series);
    let scores = |figure: fn(&(usize, f64, f64)) -> f64| -> Vec<Series> {
        let scored = traces.iter().filter(|t| !t.scores.is_empty());
        let points = |t: &Trace| t.scores.iter().map(|score| (score.0 as f64, figure(score))).collect();
        scored.map(|t| Series::line(t.name, points(t))).collect()
    };
    save("fid_along", scores(|s| s.1))?;
    save("kid_along", scores(|s| s.2))?;

    let schedule = traces.iter().take(1).map(|t| t.line("the schedule".into(), t.alpha_bars.iter().copied()));
    let medians = traces.iter().map(|t| t.line(t.name.to_string(), t.read.iter().map(|q| q[1])));
    save("alpha_bar_along", schedule.chain(medians).collect())?;
    let spread = traces.iter().flat_map(|t| {
        let quantile =
            |name: &str, i: usize| t.line(format!("{}, {name}", t.name), t.read.iter().map(|q| q[i]));
        [quantile("5 %", 0), quantile("95 %", 2)]
    });
    save("alpha_bar_along_spread", spread.collect())?;
    let held = traces.iter().map(|t| t.line(t.name.to_string(), t.held.iter().copied()));
    save("held_along", held.collect())?;

    let extremes = traces.iter().flat_map(|t| {
        let (low, high) = (t.extremes.iter().map(|e| e.0), t.extremes.iter().map(|e| e.1));
        [t.line(format!("{}, smallest", t.name), low), t.line(format!("{}, largest", t.name), high)]
    });
    save("extremes_along", extremes.collect())?;
    let reach = |t: &Trace| t.line(t.name.to_string(), t.extremes.iter().map(|e| e.1.max(-e.0)));
    save("largest_along", traces.iter().map(reach).collect())
}

/// The median ᾱ that is read off noised test images x_t = √ᾱ·(x₀ + s) + √(1−ᾱ)·ε which s brightened. An estimate that is too
/// low overshoots x̂₀; where it falls with brightness, an image that became too bright is held at the clamp's lower end and
/// becomes brighter still: so images run away.
pub fn read_off_brightened(run: &Run, reader: EpsModel) -> Result<()> {
    let images = Images::of(run, PixelRange::SIGNED);
    let indices: Vec<usize> = (0..GROUP.min(run.settings.scoring.test_images)).collect();
    let (clean, noise) = images.with_noise(&run.data.test, &indices, &numbers(&indices), "brightened")?;
    let model = Preconditioning::lesson_eps(false);
    let curve = |alpha_bar: f64| -> Result<Series> {
        let sigmas = vec![sigma_of_alpha_bar(alpha_bar) / model.scale; indices.len()];
        let read = |shift: f64| -> Result<(f64, f64)> {
            // A shift of pixels x − ½ is twice as much of those of [−1,1].
            let noised = TrainingBatch::new(&model, &(&clean + 2.0 * shift)?, &noise, &sigmas)?.input;
            Ok((shift, quantile(&reader.estimates(&noised)?, 0.5)))
        };
        let shifts = (0..=20).map(|i| f64::from(i) / 10.0);
        Ok(Series::line(format!("ᾱ {alpha_bar}"), shifts.map(read).collect::<Result<_>>()?))
    };
    let series = [0.3, 0.6, 0.9].map(curve).into_iter().collect::<Result<Vec<_>>>()?;
    save_curves(run.folder.root(), "read_off_brightened", &series)
}
