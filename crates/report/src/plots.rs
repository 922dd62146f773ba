//! The charts of runs, each drawn from the CSV beside it and from nothing else: a chart can be drawn again at any time, and
//! the same numbers make the same file.

use crate::charts::{Chart, Dot, DotChart, DotSet, LineChart, Role, Scale, Series, ShareTable};
use crate::files::{is_there, read_csv, write_csv};
use crate::record::{SampleRow, TrainRow, class_counts};
use crate::scored::ScoredRun;
use crate::setting::{labels, told_apart};
use crate::summary::{Figure, Summary};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// How the lines in NAME.csv are drawn.
struct Curves {
    name: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    x_scale: Scale,
    y_scale: Scale,
}

const fn even(name: &'static str, title: &'static str, x: &'static str, y: &'static str) -> Curves {
    Curves { name, title, x, y, x_scale: Scale::Linear, y_scale: Scale::Linear }
}

const fn log_y(name: &'static str, title: &'static str, x: &'static str, y: &'static str) -> Curves {
    Curves { y_scale: Scale::Log, ..even(name, title, x, y) }
}

const fn log_log(name: &'static str, title: &'static str, x: &'static str, y: &'static str) -> Curves {
    Curves { x_scale: Scale::Log, ..log_y(name, title, x, y) }
}

const fn of_evaluations(name: &'static str, title: &'static str) -> Curves {
    log_log(name, title, "network evaluations", "median distance over images, pixels of [−1, 1]")
}

const fn of_steps(name: &'static str, title: &'static str) -> Curves {
    log_log(name, title, "σ that the step begins at", "root mean square, pixels of [−1, 1]")
}

const CURVES: &[Curves] = &[
    even("training_sigma", "Training noise levels: ln σ ~ N(−1.2, 1.2²)", "σ", "density"),
    Curves {
        x_scale: Scale::Log,
        ..even(
            "loss_by_sigma",
            "Loss by noise level, before and after training",
            "σ",
            "mean squared error of the network",
        )
    },
    log_log(
        "error_by_sigma",
        "Error of the denoised image by noise level",
        "σ",
        "root mean squared error of D(x; σ)",
    ),
    log_y("sampling_sigma", "Noise levels of sampling", "step", "σ"),
    even("schedule_alpha_bar", "Cosine schedule: ᾱ", "t", "ᾱ"),
    even("schedule_log_snr", "Cosine schedule: log SNR = ln ᾱ/(1−ᾱ)", "t", "log SNR"),
    log_y("schedule_sigma", "Cosine schedule: σ", "t", "σ, pixels in [−1,1]"),
    even("predicted_by_true", "The noise level that is read off test images", "true ᾱ", "predicted ᾱ"),
    even(
        "predicted_by_true_alpha_bar",
        "The noise level that is read off test images, without the logit",
        "true ᾱ",
        "predicted ᾱ",
    ),
    even(
        "error_by_logit",
        "Error by noise level",
        "true logit ᾱ (image to the right, noise to the left)",
        "RMSE on logit ᾱ",
    ),
    log_y("fid_along", "FID of the images expected at each step", "step", "FID"),
    even("kid_along", "KID of the images expected at each step", "step", "KID"),
    even("alpha_bar_along", "ᾱ read off x_t at each step: the median", "step", "ᾱ"),
    even("held_along", "Images of which less than half the median ᾱ is read off", "step", "share of images"),
    log_y(
        "read_off_brightened",
        "ᾱ read off noised test images that were brightened: the median",
        "added to every pixel of the image (black is −0.5, white 0.5)",
        "ᾱ",
    ),
    log_y("largest_along", "The value of x_t farthest from 0 at each step", "step", "largest |x_t|"),
    of_evaluations("errors_ideal_at_sigma_1", "Distance from the ODE's solution at σ 1, ideal denoiser"),
    of_evaluations("errors_ideal_at_sigma_0", "Distance from the ODE's end, ideal denoiser"),
    of_evaluations("errors_trained_at_sigma_1", "Distance from the ODE's solution at σ 1, trained network"),
    of_evaluations("errors_trained_at_sigma_0", "Distance from the ODE's end, trained network"),
    of_steps("local_error_ideal_euler", "Error of one Euler step of 18, ideal denoiser"),
    of_steps("local_error_ideal_heun", "Error of one Heun step of 18, ideal denoiser"),
    of_steps("local_error_trained_euler", "Error of one Euler step of 18, trained network"),
    of_steps("local_error_trained_heun", "Error of one Heun step of 18, trained network"),
    log_y("fid_by_epoch", "FID of 512 samples while training, Heun's method", "epoch", "FID"),
    even("fid_by_n", "What FID owes to the number of samples", "1/n", "FID of n samples − FID∞"),
];

/// A point of a chart as its CSV holds it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Point {
    series: String,
    #[serde(default)]
    role: Role,
    x: f64,
    y: f64,
    // Before schema 7 `std_err`.
    #[serde(default, alias = "std_err")]
    half_width: Option<f64>,
}

/// The chart of a run's NAME.csv, with `series` as its lines; none where such a file has no chart.
pub fn curves_chart(name: &str, series: Vec<Series>) -> Option<LineChart> {
    CURVES.iter().find(|curves| curves.name == name).map(|curves| curves.chart(series))
}

/// Writes the numbers of `series` to NAME.csv in `folder`, a row for each point, and draws the chart of this name, where
/// there is one, as NAME.png and NAME.svg.
///
/// # Errors
/// When nothing finite is to be drawn, or a file cannot be written.
pub fn save_curves(folder: &Path, name: &str, series: &[Series]) -> Result<()> {
    write_curves(&folder.join(format!("{name}.csv")), series)?;
    match curves_chart(name, series.to_vec()) {
        Some(chart) => chart.save_both(&folder.join(format!("{name}.png"))),
        None => Ok(()),
    }
}

/// Writes the numbers of `series` to the CSV `path`, a row for each point.
///
/// # Errors
/// When the file cannot be written.
pub fn write_curves(path: &Path, series: &[Series]) -> Result<()> {
    let points = |s: &Series| -> Vec<Point> {
        let point = |(i, &(x, y)): (usize, &(f64, f64))| Point {
            series: s.name.clone(),
            role: s.role,
            x,
            y,
            half_width: s.half_widths.get(i).copied().filter(|error| !error.is_nan()),
        };
        s.points.iter().enumerate().map(point).collect()
    };
    let points: Vec<Point> = series.iter().flat_map(points).collect();
    write_csv(path, &points)
}

impl Curves {
    fn chart(&self, series: Vec<Series>) -> LineChart {
        let Self { title, x, y, x_scale, y_scale, .. } = *self;
        LineChart { x_scale, y_scale, ..LineChart::new(title, x, y, series) }
    }
}

/// The series in a chart's CSV, as [`save_curves`] wrote them.
///
/// # Errors
/// When the file cannot be read, or a row is damaged.
pub fn read_curves(path: &Path) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = vec![];
    for point in read_csv::<Point>(path)? {
        let same = |series: &Series| series.name == point.series && series.role == point.role;
        if !all.last().is_some_and(same) {
            all.push(Series { role: point.role, ..Series::line(point.series, vec![]) });
        }
        let series = all.len() - 1;
        all[series].points.push((point.x, point.y));
        all[series].half_widths.push(point.half_width.unwrap_or(f64::NAN));
    }
    Ok(all)
}

/// Writes train.csv in `folder` and draws its loss; `suffix` stands behind both names where a run trains more than one model.
///
/// # Errors
/// When a file cannot be written.
pub fn save_training(folder: &Path, suffix: &str, rows: &[TrainRow]) -> Result<()> {
    write_csv(&folder.join(format!("train{suffix}.csv")), rows)?;
    loss(rows).save_both(&folder.join(format!("loss{suffix}.png")))
}

fn loss(rows: &[TrainRow]) -> LineChart {
    let points = |loss: fn(&TrainRow) -> f64| rows.iter().map(|row| (row.epoch as f64, loss(row))).collect();
    let series = vec![
        Series::line("training images", points(|row| row.train_loss)),
        Series::line("test images", points(|row| row.test_loss)),
    ];
    LineChart::new("Loss by epoch", "epoch", "mean squared error", series)
}

/// Draws every chart of the run's folder `run` from the CSVs in it, grids of images excepted, each as PNG and as SVG, and says
/// which PNGs.
///
/// # Errors
/// When a CSV is damaged, or a chart cannot be written.
pub fn draw_charts(run: &Path) -> Result<Vec<PathBuf>> {
    let scored = is_there(&run.join("samples.csv")).then(|| ScoredRun::read(run)).transpose()?;
    run_charts(run, scored.as_ref())?.iter().map(|chart| chart.save(run)).collect()
}

/// Draws the charts of samples.csv in the run's folder `run`: FID by sampler, FID by ρ where it was varied, and shares of
/// classes where they were counted.
///
/// # Errors
/// When a file is damaged or cannot be written.
pub fn draw_samples(run: &Path) -> Result<Vec<PathBuf>> {
    charts_of_samples(&ScoredRun::read(run)?).iter().map(|chart| chart.save(run)).collect()
}

/// A chart of a run.
pub struct RunChart {
    /// Its file, without an ending.
    pub name: String,
    /// The CSV that it is drawn from.
    csv: String,
    chart: Box<dyn Chart>,
}

impl RunChart {
    fn new(name: &str, csv: &str, chart: impl Chart + 'static) -> Self {
        Self { name: name.to_string(), csv: format!("{csv}.csv"), chart: Box::new(chart) }
    }

    /// What stands above it.
    pub fn title(&self) -> &str {
        self.chart.title()
    }

    /// It as an SVG document; an error names its CSV in the run's folder `run`.
    ///
    /// # Errors
    /// When the CSV has nothing that can be drawn.
    pub fn svg(&self, run: &Path) -> Result<String> {
        self.chart.svg().with_context(|| cannot_draw(&run.join(&self.csv)))
    }

    fn save(&self, run: &Path) -> Result<PathBuf> {
        let png = run.join(format!("{}.png", self.name));
        self.chart.save_both(&png).with_context(|| cannot_draw(&run.join(&self.csv)))?;
        Ok(png)
    }
}

/// Every chart of the run's folder `run`, from the CSVs in it; `scored` is what its samples.csv holds.
///
/// # Errors
/// When a CSV is damaged.
pub fn run_charts(run: &Path, scored: Option<&ScoredRun>) -> Result<Vec<RunChart>> {
    let mut charts = vec![];
    for curves in CURVES {
        let csv = run.join(format!("{}.csv", curves.name));
        if is_there(&csv) {
            charts.push(RunChart::new(curves.name, curves.name, curves.chart(read_curves(&csv)?)));
        }
    }
    for suffix in ["", "_alpha_bar"] {
        let csv = run.join(format!("train{suffix}.csv"));
        if is_there(&csv) {
            charts.push(RunChart::new(
                &format!("loss{suffix}"),
                &format!("train{suffix}"),
                loss(&read_csv(&csv)?),
            ));
        }
    }
    charts.extend(scored.into_iter().flat_map(charts_of_samples));
    Ok(charts)
}

fn charts_of_samples(scored: &ScoredRun) -> Vec<RunChart> {
    const CSV: &str = "samples";
    let scored = std::slice::from_ref(scored);
    let mut charts = vec![];
    charts.extend(fid_by_sampler(scored).map(|chart| RunChart::new("fid_by_sampler", CSV, chart)));
    charts.extend(fid_by_rho(scored).map(|chart| RunChart::new("fid_by_rho", CSV, chart)));
    charts.extend(classes(&scored[0].rows).map(|table| RunChart::new("classes", CSV, table)));
    charts
}

fn cannot_draw(csv: &Path) -> String {
    format!("cannot draw {}", csv.display())
}

/// The rows that are of several which differ in ρ alone, and the others.
fn by_sweep(rows: &[SampleRow]) -> (Vec<&SampleRow>, Vec<&SampleRow>) {
    let key = |row: &SampleRow| Some((row.rho?, (row.n, row.without("rho").0)));
    let keys: Vec<_> = rows.iter().map(key).collect();
    let mut first = HashMap::new();
    let mut swept = HashSet::new();
    for (rho, key) in keys.iter().flatten() {
        if first.entry(key).or_insert(rho) != &rho {
            swept.insert(key);
        }
    }
    let is_swept = |key: &Option<(f64, _)>| key.as_ref().is_some_and(|(_, key)| swept.contains(key));
    let (of_sweep, others): (Vec<_>, Vec<_>) = rows.iter().zip(&keys).partition(|(_, key)| is_swept(key));
    let rows = |pairs: Vec<(_, _)>| pairs.into_iter().map(|pair| pair.0).collect();
    (rows(of_sweep), rows(others))
}

/// A setting's `label`, and its number of samples `n` where this is not the `usual` one.
pub fn label_among(label: &str, n: usize, usual: usize) -> String {
    match n == usual {
        true => label.to_string(),
        false => format!("{label}, {n} samples"),
    }
}

/// FID of every sampler and yardstick, a colour for each run; the first run's floor as a line. None where nothing but real
/// images was scored.
pub fn fid_by_sampler(runs: &[ScoredRun]) -> Option<DotChart> {
    let tables: Vec<Vec<&SampleRow>> = runs.iter().map(|run| by_sweep(&run.rows).1).collect();
    let n = tables.iter().flatten().next()?.n;
    let labels = labels(tables.iter().flatten().copied());
    let is_floor = |row: &&SampleRow| row.sampler == "real" && row.n == n;
    // Those of all runs: each setting and number of samples has its row.
    let settings = Summary::all(tables.iter().flatten().copied().filter(|row| !is_floor(row)));
    let key = |summary: &Summary| (summary.first().n, summary.setting().to_string());
    tables.iter().flatten().find(|row| !row.is_real())?;
    let dot = |summary: &Summary| {
        let fid = summary.figure(Figure::Fid);
        let note = summary.first().nfe.map_or_else(String::new, |nfe| format!("{nfe} evaluations"));
        Dot { value: fid.mean, error: fid.half_width(), note }
    };
    let set = |(run, table): (&ScoredRun, &Vec<&SampleRow>)| {
        let summaries = Summary::all(table.iter().copied());
        let dots: HashMap<_, Dot> = summaries.iter().map(|summary| (key(summary), dot(summary))).collect();
        DotSet { name: run.name(), dots: settings.iter().map(|s| dots.get(&key(s)).cloned()).collect() }
    };
    let sets = runs.iter().zip(&tables).map(set).collect();
    let floor = Summary::all(tables[0].iter().copied().filter(is_floor));
    let reference = floor.first().map(|floor| ("real images".to_string(), floor.figure(Figure::Fid).mean));
    Some(DotChart {
        title: format!("FID by sampler, {n} samples{}", seeds(&tables)),
        value_label: "FID against the test images (lower is better), with its 95 % interval".into(),
        rows: settings.iter().map(|s| label_among(&labels[s.setting()], s.first().n, n)).collect(),
        sets,
        reference,
    })
}

/// For a title: of how many seeds the rows of runs are, at most.
fn seeds(tables: &[Vec<&SampleRow>]) -> String {
    let of_run =
        |table: &Vec<&SampleRow>| Summary::all(table.iter().copied()).iter().map(Summary::seeds).max();
    match tables.iter().filter_map(of_run).max() {
        Some(seeds) if seeds > 1 => format!(" of each of {seeds} seeds"),
        _ => String::new(),
    }
}

/// ρ that others are compared with: the usual one.
const USUAL_RHO: f64 = 7.0;

/// What FID is more than at ρ 7, or at the ρ nearest to it, by ρ: a line for each run and setting whose ρ was varied. None where
/// none was.
pub fn fid_by_rho(runs: &[ScoredRun]) -> Option<LineChart> {
    let swept: Vec<Vec<&SampleRow>> = runs.iter().map(|run| by_sweep(&run.rows).0).collect();
    let labels = told_apart(swept.iter().flatten().map(|row| row.without("rho")));
    let mut series: Vec<Series> = vec![];
    let mut all_from_usual = true;
    for (run, rows) in runs.iter().zip(&swept) {
        for sweep in sweeps(rows) {
            let (row, base) = (sweep[0].1.first(), base_of(&sweep)?);
            let mut name = format!("{}, {} samples", labels[&row.without("rho").0], row.n);
            if runs.len() > 1 {
                name = format!("{}: {name}", run.name());
            }
            if base.0 != USUAL_RHO {
                name += &format!(", from ρ {}", base.0);
                all_from_usual = false;
            }
            series.push(differences(name, &sweep, base));
        }
    }
    let base = if all_from_usual { "at ρ 7" } else { "at ρ 7 or the ρ nearest to it" };
    let title = match series.as_slice() {
        [] => return None,
        [only] => format!("FID minus that {base}: {}", only.name),
        _ => format!("FID minus that {base}"),
    };
    let has_whiskers = series.iter().flat_map(|series| &series.half_widths).any(|width| !width.is_nan());
    let x = if has_whiskers {
        "ρ (whiskers: 95 % intervals of the differences)"
    } else {
        "ρ (intervals are not known)"
    };
    let y = "difference of FID (logarithmic beyond ±1)";
    // ρ = 1 is worse by far: on an even axis the others would look alike.
    Some(LineChart { y_scale: Scale::SymLog, ..LineChart::new(&title, x, y, series) })
}

/// A setting whose ρ was varied: each ρ with its rows, in order.
type Sweep<'a> = Vec<(f64, Summary<'a>)>;

fn sweeps<'a>(rows: &[&'a SampleRow]) -> Vec<Sweep<'a>> {
    let mut sweeps: Vec<Sweep> = vec![];
    let mut places = HashMap::new();
    for summary in Summary::all(rows.iter().copied()) {
        let row = summary.first();
        let Some(rho) = row.rho else { continue };
        let place = *places.entry((row.n, row.without("rho").0)).or_insert_with(|| {
            sweeps.push(vec![]);
            sweeps.len() - 1
        });
        sweeps[place].push((rho, summary));
    }
    sweeps.iter_mut().for_each(|sweep| sweep.sort_by(|a, b| a.0.total_cmp(&b.0)));
    sweeps
}

fn base_of<'a, 'b>(sweep: &'b Sweep<'a>) -> Option<&'b (f64, Summary<'a>)> {
    let distance = |point: &&(f64, Summary)| (point.0 - USUAL_RHO).abs();
    sweep.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

fn differences(name: String, sweep: &Sweep, (base_rho, base): &(f64, Summary)) -> Series {
    let mut series = Series::line(name, vec![]);
    for (rho, summary) in sweep {
        let difference = base.difference(summary, Figure::Fid).0;
        series.points.push((*rho, difference.mean));
        let half_width = if rho == base_rho { None } else { difference.half_width() };
        series.half_widths.push(half_width.unwrap_or(f64::NAN));
    }
    series
}

/// The classes of Fashion-MNIST, in the order of its labels.
const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// What the classifier takes each setting's samples for, under the same of real images.
fn classes(rows: &[SampleRow]) -> Option<ShareTable> {
    let n = rows.first()?.n;
    let labels = labels(rows);
    let shares = |summary: &Summary| -> Option<(String, Vec<f64>)> {
        let mut sums = vec![0.0; CLASSES.len()];
        for row in summary.rows() {
            for (sum, count) in sums.iter_mut().zip(class_counts(row.classes.as_ref()?)?) {
                *sum += count;
            }
        }
        let all: f64 = sums.iter().sum();
        Some((
            label_among(&labels[summary.setting()], summary.first().n, n),
            sums.iter().map(|sum| sum / all).collect(),
        ))
    };
    let rows: Vec<_> = Summary::all(by_sweep(rows).1).iter().filter_map(shares).collect();
    (rows.len() > 1).then(|| ShareTable {
        title: "Classes of the samples, as the classifier sees them".into(),
        columns: CLASSES.map(str::to_string).to_vec(),
        rows,
    })
}
