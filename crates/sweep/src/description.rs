//! A sweep's file: which runs there are to be, and which charts of them.

use crate::charts::file_stem;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use toml::{Spanned, Value};

/// Options that the sweep gives itself.
const OWN: [&str; 5] = ["out", "resume", "dry-run", "help", "version"];

/// The longest name of a run, less its checksum.
const LONGEST_NAME: usize = 100;

/// What stands in a sweep's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// The experiment, as its folder under results/ has it.
    experiment: Spanned<String>,
    /// The sweep's folder.
    out: Option<PathBuf>,
    /// How many runs there are at a time.
    at_once: Option<Spanned<usize>>,
    /// Options of every run.
    #[serde(default)]
    options: BTreeMap<Spanned<String>, Value>,
    /// Options of which every combination is run.
    #[serde(default)]
    axes: Axes,
    /// Options whose k-th values go together: one axis each.
    #[serde(default)]
    together: Vec<Axes>,
    #[serde(default)]
    charts: Vec<Spanned<Chart>>,
    #[serde(default)]
    curves: Vec<Spanned<Curves>>,
}

type Axes = BTreeMap<Spanned<String>, Vec<Value>>;

/// A chart of the merged table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// How it is drawn.
    pub kind: Kind,
    /// The axis or column that goes to the right.
    pub x: String,
    /// The axis or column that a heat map has as its rows.
    pub y: Option<String>,
    /// Axes and columns whose values make a line each.
    #[serde(default)]
    pub lines: Vec<String>,
    /// The column that is drawn.
    pub figure: String,
    /// What a row must hold to be drawn, by axis or column.
    #[serde(default)]
    pub only: BTreeMap<String, Value>,
    /// Whether the x axis of lines is logarithmic.
    #[serde(default)]
    pub log_x: bool,
    /// The chart's file, without its ending.
    pub name: Option<String>,
}

/// A chart of curves that the runs have a CSV of, as `error_by_sigma`: the mean over seeds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curves {
    /// The CSV in a run's folder, without its ending.
    pub csv: String,
    /// Which of the CSV's lines; its only one where this is left out.
    pub series: Option<String>,
    /// Axes whose values make a line each: all but `seed`.
    pub lines: Vec<String>,
    /// The values of the line that the others are shown as multiples of, in the order of `lines`.
    pub against: Option<String>,
    /// The chart's file, without its ending.
    pub name: Option<String>,
}

impl Curves {
    /// The chart's file and its CSV's, without an ending.
    pub fn file_stem(&self) -> String {
        as_file(self.name.as_deref().unwrap_or(&self.csv))
    }

    /// The values of a run that make its line.
    pub fn line(&self, sweep: &Sweep, run: &PlannedRun) -> String {
        let value = |line: &String| {
            let axis = sweep.axes.iter().position(|axis| *axis == as_option(line))?;
            run.values.get(axis).map(String::as_str)
        };
        self.lines.iter().filter_map(value).collect::<Vec<_>>().join(", ")
    }

    /// Refuses what no run can have.
    fn check(&self, sweep: &Sweep) -> Result<()> {
        let named: Vec<String> = self.lines.iter().map(|line| as_option(line)).collect();
        ensure!(!named.is_empty(), "lines: name at least one axis");
        if let Some(unknown) = named.iter().find(|line| !sweep.axes.contains(line)) {
            bail!("lines: there is no axis {unknown:?}");
        }
        if let Some(axis) = sweep.axes.iter().find(|&axis| axis != "seed" && !named.contains(axis)) {
            bail!("lines: name {axis:?} too: only over seeds a curve is averaged");
        }
        if let Some(against) = &self.against {
            let lines: BTreeSet<String> = sweep.runs.iter().map(|run| self.line(sweep, run)).collect();
            ensure!(
                lines.contains(against),
                "against: there is no line {against:?}: give one of {}",
                Vec::from_iter(lines).join("; ")
            );
        }
        Ok(())
    }
}

/// How a chart is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The figure over x, a line for each combination of values of `lines`.
    Lines,
    /// The figure as a colour over x and y.
    HeatMap,
}

/// A sweep: its runs and its charts.
#[derive(Debug)]
pub struct Sweep {
    /// Its file.
    pub file: PathBuf,
    text: String,
    /// The experiment of all its runs, as its folder under results/ has it.
    pub experiment: String,
    experiment_at: usize,
    /// Its folder, in which its runs have theirs.
    pub out: PathBuf,
    /// How many runs there are at a time.
    pub at_once: usize,
    /// The names of its axes, in the file's order.
    pub axes: Vec<String>,
    /// Its runs, the first axis slowest.
    pub runs: Vec<PlannedRun>,
    /// The charts of its merged table.
    pub charts: Vec<Chart>,
    /// The charts of its runs' curves.
    pub curves: Vec<Curves>,
    /// Where each option stands in the file.
    places: HashMap<String, usize>,
}

/// A run that the file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// The name of its folder: its values on the axes, and a checksum of all of its options.
    pub name: String,
    /// Its values on the axes, as text.
    pub values: Vec<String>,
    /// The options of its command line.
    pub options: Vec<String>,
    /// Flags that it leaves out: `false` in the file.
    pub off: Vec<String>,
}

impl PlannedRun {
    /// The options on which its figures depend.
    pub fn of_figures(&self) -> impl Iterator<Item = &String> {
        const OTHERS: [&str; 4] = ["threads", "sampling-batch-size", "data-dir", "checkpoint-minutes"];
        let name = |option: &str| option.trim_start_matches('-').split('=').next().map(str::to_string);
        self.options
            .iter()
            .filter(move |option| name(option).is_none_or(|name| !OTHERS.contains(&name.as_str())))
    }

    /// How many threads it is to have, where its options say so.
    pub fn threads(&self) -> Option<usize> {
        self.options.iter().find_map(|option| option.strip_prefix("--threads=")?.parse().ok())
    }
}

/// One axis: options whose values go together, and what each of its points says.
struct Axis {
    names: Vec<String>,
    points: Vec<Vec<Value>>,
}

impl Axis {
    /// Adds the values of one more option.
    fn add(&mut self, values: Vec<Value>) -> Result<()> {
        ensure!(!values.is_empty(), "an axis has no values");
        values.iter().try_for_each(|value| text(value).map(drop))?;
        let n = if self.points.is_empty() { values.len() } else { self.points.len() };
        ensure!(values.len() == n, "{} values, where what goes together with it has {n}", values.len());
        self.points.resize(n, vec![]);
        self.points.iter_mut().zip(values).for_each(|(point, value)| point.push(value));
        Ok(())
    }
}

impl Sweep {
    /// Reads a sweep's file.
    ///
    /// # Errors
    /// When the file cannot be read, holds an unknown key, or asks for what cannot be: one line that names the file and the line.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let contents: Contents = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', " ");
            anyhow::anyhow!("{}, line {}: {message}", file.display(), line(&text, at))
        })?;
        let at = |span: usize| format!("{}, line {}", file.display(), line(&text, span));
        let stem = file.file_stem().with_context(|| format!("{} names no file", file.display()))?;
        let out = contents.out.unwrap_or_else(|| Path::new("results/sweeps").join(stem));
        let at_once = contents.at_once.as_ref().map_or(1, |at_once| *at_once.get_ref());
        let place = contents.at_once.as_ref().map_or(0, |at_once| at_once.span().start);
        ensure!(at_once > 0, "{}: at_once is 0: give at least 1", at(place));

        let mut places = HashMap::new();
        let (mut fixed, mut off) = (vec![], vec![]);
        for (key, value) in in_order(contents.options) {
            let name = option_name(&key, &mut places).with_context(|| at(key.span().start))?;
            fixed.extend(words(&name, &value).with_context(|| at(key.span().start))?);
            off.extend((value == Value::Boolean(false)).then_some(name));
        }
        let of_grid = in_order(contents.axes).into_iter().map(|list| vec![list]);
        let mut axes = vec![];
        for lists in of_grid.chain(contents.together.into_iter().map(in_order)) {
            let mut axis = Axis { names: vec![], points: vec![] };
            for (key, values) in lists {
                let place = || at(key.span().start);
                axis.names.push(option_name(&key, &mut places).with_context(place)?);
                axis.add(values).with_context(|| format!("{}: {}", place(), key.get_ref()))?;
            }
            axes.push(axis);
        }
        let experiment = contents.experiment.get_ref().clone();
        let runs = expand(&experiment, (&fixed, &off), &axes).with_context(|| file.display().to_string())?;
        let mut sweep = Self {
            file: file.to_path_buf(),
            experiment,
            experiment_at: contents.experiment.span().start,
            out,
            at_once,
            axes: axes.into_iter().flat_map(|axis| axis.names).collect(),
            runs,
            charts: vec![],
            curves: vec![],
            places,
            text: text.clone(),
        };
        (sweep.charts, sweep.curves) = charts(&sweep, contents.charts, contents.curves, at)?;
        Ok(sweep)
    }

    /// Where `option` stands, as a beginning of a message; the file alone where it does not.
    pub fn place_of(&self, option: &str) -> String {
        self.place(self.places.get(option).copied())
    }

    /// Where the experiment is named.
    pub fn place_of_experiment(&self) -> String {
        self.place(Some(self.experiment_at))
    }

    fn place(&self, at: Option<usize>) -> String {
        let line = at.map_or_else(String::new, |at| format!(", line {}", line(&self.text, at)));
        format!("{}{line}", self.file.display())
    }

    /// The folder of a run.
    pub fn folder(&self, run: &PlannedRun) -> PathBuf {
        self.out.join(&run.name)
    }
}

/// The charts, each with what its kind needs and a file of its own; `at` says where a place is.
fn charts(
    sweep: &Sweep,
    charts: Vec<Spanned<Chart>>,
    curves: Vec<Spanned<Curves>>,
    at: impl Fn(usize) -> String,
) -> Result<(Vec<Chart>, Vec<Curves>)> {
    // The tables' names are taken.
    let mut names = HashSet::from(["runs".to_string(), "samples".to_string()]);
    let mut is_new = |name: String, place: &str| {
        ensure!(names.insert(name.clone()), "{place}: another file is {name} already: give it a `name`");
        Ok(())
    };
    for chart in &charts {
        let place = at(chart.span().start);
        is_new(file_stem(chart.get_ref()).with_context(|| place.clone())?, &place)?;
    }
    for curves in &curves {
        let place = at(curves.span().start);
        is_new(curves.get_ref().file_stem(), &place)?;
        curves.get_ref().check(sweep).context(place)?;
    }
    let charts = charts.into_iter().map(Spanned::into_inner).collect();
    Ok((charts, curves.into_iter().map(Spanned::into_inner).collect()))
}

/// A key's name as the command line has it.
fn as_option(key: &str) -> String {
    key.replace('_', "-")
}

/// A chart's name as that of a file.
pub fn as_file(name: &str) -> String {
    name.replace(['/', ' ', ','], "_")
}

/// The line of byte `at`, from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// As the file has them.
fn in_order<T>(table: BTreeMap<Spanned<String>, T>) -> Vec<(Spanned<String>, T)> {
    let mut pairs: Vec<_> = table.into_iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

/// The option of a key, as the command line has it; written down where it stands.
fn option_name(key: &Spanned<String>, places: &mut HashMap<String, usize>) -> Result<String> {
    let name = as_option(key.get_ref());
    ensure!(!OWN.contains(&name.as_str()), "{}: the sweep gives this option itself", key.get_ref());
    ensure!(
        places.insert(name.clone(), key.span().start).is_none(),
        "{} is there twice, as an option of all runs or on an axis",
        key.get_ref()
    );
    Ok(name)
}

/// The words that give `option` the value, one for each value of a list.
fn words(option: &str, value: &Value) -> Result<Vec<String>> {
    Ok(match value {
        Value::Boolean(true) => vec![format!("--{option}")],
        Value::Boolean(false) => vec![],
        Value::Array(values) if values.is_empty() => bail!("an empty list gives no value"),
        Value::Array(values) => {
            let each: Vec<_> = values.iter().map(|value| words(option, value)).collect::<Result<_>>()?;
            each.concat()
        }
        _ => vec![format!("--{option}={}", text(value)?)],
    })
}

/// A value as the command line, tables and names have it.
pub fn text(value: &Value) -> Result<String> {
    Ok(match value {
        Value::String(text) if text.contains(char::is_control) => bail!("a control character in {text:?}"),
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Array(values) if values.is_empty() => bail!("an empty list gives no value"),
        Value::Array(values) => {
            let each: Vec<String> = values.iter().map(text).collect::<Result<_>>()?;
            each.join("; ")
        }
        Value::Datetime(_) | Value::Table(_) => bail!("a table or a date is no option's value"),
    })
}

/// Every combination of the axes' points.
fn expand(experiment: &str, fixed: (&[String], &[String]), axes: &[Axis]) -> Result<Vec<PlannedRun>> {
    let mut combinations: Vec<Vec<(&str, &Value)>> = vec![vec![]];
    for axis in axes {
        let mut longer = vec![];
        for (combination, point) in combinations.iter().flat_map(|c| axis.points.iter().map(move |p| (c, p)))
        {
            let names = axis.names.iter().map(String::as_str);
            longer.push(combination.iter().copied().chain(names.zip(point)).collect());
        }
        combinations = longer;
    }
    let mut seen = HashSet::new();
    let mut runs = vec![];
    for combination in combinations {
        let run = planned(experiment, fixed, &combination)?;
        let point = combination.iter().zip(&run.values).map(|((name, _), value)| format!("{name} {value}"));
        let point = point.collect::<Vec<_>>().join(", ");
        ensure!(seen.insert(run.name.clone()), "two runs are the same: {point}");
        runs.push(run);
    }
    Ok(runs)
}

fn planned(
    experiment: &str,
    (fixed, off): (&[String], &[String]),
    point: &[(&str, &Value)],
) -> Result<PlannedRun> {
    let (mut options, mut off) = (fixed.to_vec(), off.to_vec());
    let (mut values, mut name) = (vec![], String::new());
    for (option, value) in point {
        options.extend(words(option, value)?);
        off.extend((**value == Value::Boolean(false)).then(|| option.to_string()));
        let value = text(value)?;
        name += &format!("{option}={value}_");
        values.push(value);
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "=._-+".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).take(LONGEST_NAME).collect();
    let mut run = PlannedRun { name, values, options, off };
    // Neither the file's order nor what changes no figure makes another run.
    let mut of_figures: Vec<&str> = run.of_figures().map(String::as_str).collect();
    of_figures.sort_unstable();
    let mut hash = Sha256::new();
    hash.update([&[experiment], of_figures.as_slice()].concat().join("\0"));
    run.name += &format!("{:x}", hash.finalize())[..8];
    Ok(run)
}
