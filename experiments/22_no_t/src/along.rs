//! What happens along the reverse process.

use anyhow::Result;
use candle_core::Tensor;
use elucidate_lab::ddim::{DdimSetting, EpsModel, GROUP, draw_ddim, to_signed};
use elucidate_lab::figures::{quantile, save_curves};
use elucidate_lab::run::Run;
use elucidate_lab::score::Scorer;
use elucidate_report::{LineChart, Scale, Series};
use elucidate_samplers::DdimStep;

/// x̂₀ is scored at every step that this divides, and at the last.
const SCORED_EVERY: usize = 4;

/// A model and how it is sampled.
pub struct Model<'a> {
    pub name: &'static str,
    pub model: EpsModel<'a>,
    pub setting: DdimSetting,
    /// Whether x̂₀ is scored along the way.
    pub scored: bool,
}

/// What was seen along the way of the first group of images.
pub struct Trace {
    name: &'static str,
    /// The schedule's ᾱ by step.
    alpha_bars: Vec<f64>,
    /// 5 %, median and 95 % of what the noise-level model reads off x_t, by step.
    read: Vec<[f64; 3]>,
    /// The smallest and the largest value of x_t, by step.
    extremes: Vec<(f64, f64)>,
    /// Step, FID and KID of x̂₀.
    scores: Vec<(usize, f64, f64)>,
}

impl Trace {
    pub fn of(run: &Run, scorer: &Scorer, model: &Model) -> Result<Self> {
        let n = run.settings.samples.min(GROUP);
        let last = model.setting.steps - 1;
        let mut trace =
            Self { name: model.name, alpha_bars: vec![], read: vec![], extremes: vec![], scores: vec![] };
        let mut expected = vec![];
        let mut observe = |step: DdimStep| -> candle_core::Result<()> {
            let value = |t: Tensor| -> candle_core::Result<f64> { Ok(f64::from(t.to_scalar::<f32>()?)) };
            trace.alpha_bars.push(step.alpha_bar);
            trace.extremes.push((value(step.x.min_all()?)?, value(step.x.max_all()?)?));
            // Plain DDIM asks for no estimates: they are made here.
            let read = match step.estimates {
                [] => model.model.estimates(step.x)?,
                estimates => estimates.to_vec(),
            };
            trace.read.push([0.05, 0.5, 0.95].map(|share| quantile(&read, share)));
            if model.scored && (step.index.is_multiple_of(SCORED_EVERY) || step.index == last) {
                expected.push((step.index, to_signed(step.x0)?.clamp(-1.0, 1.0)?));
            }
            Ok(())
        };
        let (streams, device) = (&run.streams, &run.device);
        draw_ddim(model.model, &model.setting, streams, n, device, &|_| (), &mut observe)?;
        for (index, images) in expected {
            let score = scorer.score(&images, run.settings.seed)?;
            trace.scores.push((index, score.fid, score.kid));
        }
        Ok(trace)
    }

    fn line(&self, name: String, values: impl Iterator<Item = f64>) -> Series {
        let points = values.enumerate().map(|(i, y)| (i as f64, y)).filter(|(_, y)| y.is_finite());
        Series { name, points: points.collect() }
    }
}

/// The charts of several traces, each with its numbers.
pub fn draw(run: &Run, traces: &[Trace]) -> Result<()> {
    let scores = |figure: fn(&(usize, f64, f64)) -> f64| -> Vec<Series> {
        let scored = traces.iter().filter(|t| !t.scores.is_empty());
        let points = |t: &Trace| t.scores.iter().map(|score| (score.0 as f64, figure(score))).collect();
        scored.map(|t| Series { name: t.name.to_string(), points: points(t) }).collect()
    };
    let images = run.settings.samples.min(GROUP);
    let title = |what: &str| format!("{what} of the images expected at each step, {images} images");
    save(run, "fid_along", &title("FID"), "FID", Scale::Log, scores(|s| s.1))?;
    save(run, "kid_along", &title("KID"), "KID", Scale::Linear, scores(|s| s.2))?;

    let mut read = vec![];
    for trace in traces {
        if read.is_empty() {
            read.push(trace.line("the schedule".into(), trace.alpha_bars.iter().copied()));
        }
        read.push(trace.line(trace.name.to_string(), trace.read.iter().map(|q| q[1])));
    }
    save(run, "alpha_bar_along", "ᾱ read off x_t at each step: the median", "ᾱ", Scale::Linear, read)?;
    let spread = traces.iter().flat_map(|t| {
        let quantile =
            |name: &str, i: usize| t.line(format!("{}, {name}", t.name), t.read.iter().map(|q| q[i]));
        [quantile("5 %", 0), quantile("95 %", 2)]
    });
    save_curves(run, "alpha_bar_along_spread", &spread.collect::<Vec<_>>())?;

    let extremes = traces.iter().flat_map(|t| {
        let (low, high) = (t.extremes.iter().map(|e| e.0), t.extremes.iter().map(|e| e.1));
        [t.line(format!("{}, smallest", t.name), low), t.line(format!("{}, largest", t.name), high)]
    });
    let extremes: Vec<Series> = extremes.collect();
    save_curves(run, "extremes_along", &extremes)?;
    let reach = traces.iter().map(|t| t.line(t.name.to_string(), t.extremes.iter().map(|e| e.1.max(-e.0))));
    let title = "The value of x_t farthest from 0 at each step";
    let chart =
        LineChart { y_scale: Scale::Log, ..LineChart::new(title, "step", "largest |x_t|", reach.collect()) };
    chart.save(&run.folder.path("extremes_along.png"))
}

fn save(run: &Run, name: &str, title: &str, y: &str, y_scale: Scale, series: Vec<Series>) -> Result<()> {
    save_curves(run, name, &series)?;
    let chart = LineChart { y_scale, ..LineChart::new(title, "step", y, series) };
    chart.save(&run.folder.path(format!("{name}.png")))
}
