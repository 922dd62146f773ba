//! What the page shows of one run.

use crate::charts::Chart;
use crate::files::{is_there, read_csv, read_file};
use crate::lock::is_locked;
use crate::plots::run_charts;
use crate::record::{RunRecord, SampleRow, TrainRow};
use crate::scored::{ScoredRun, named};
use crate::setting::labels;
use crate::summary::{Figure, Summary};
use crate::terminal::quoted;
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// The state of a run that somebody writes.
const UNDER_WAY: &str = "under way: this is how far it is";

/// A chart as SVG, with its title as the text for those who do not see it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Drawn {
    title: String,
    svg: String,
}

/// A PNG in the page itself.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Picture {
    caption: String,
    /// As a `data:` address.
    source: String,
    width: u32,
    height: u32,
}

/// A setting's first samples.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Samples {
    pub(crate) label: String,
    fid: String,
    picture: Picture,
}

/// A row of the table: a setting with its figures and their intervals.
#[derive(Debug, Serialize)]
struct Scored {
    label: String,
    is_real: bool,
    n: usize,
    seeds: usize,
    nfe: String,
    fid: String,
    kid: String,
    density: String,
    coverage: String,
}

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct RunView {
    pub(crate) name: String,
    pub(crate) experiment: String,
    state: String,
    is_finished: bool,
    /// What was run: a name and a value each.
    facts: Vec<(String, String)>,
    /// Every option with its value.
    pub(crate) options: BTreeMap<String, String>,
    /// Shell commands that do it again.
    again: String,
    figures: Vec<(String, String)>,
    seconds: Vec<(String, String)>,
    charts: Vec<Drawn>,
    /// Samples while it was trained, an epoch each.
    by_epoch: Vec<Picture>,
    pub(crate) samples: Vec<Samples>,
    pictures: Vec<Picture>,
    table: Vec<Scored>,
}

/// A chart as it stands in the page.
pub(crate) fn drawn(chart: &impl Chart) -> Result<Drawn> {
    Ok(Drawn { title: chart.title().to_string(), svg: chart.svg()? })
}

impl RunView {
    /// That of the run in `folder`.
    ///
    /// # Errors
    /// When it is none, or a file in it is damaged.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let record =
            RunRecord::read(folder).with_context(|| format!("{} is not a run's folder", folder.display()))?;
        let scored = is_there(&folder.join("samples.csv")).then(|| ScoredRun::read(folder)).transpose()?;
        let charts = run_charts(folder, scored.as_ref())?;
        let rows = scored.map_or_else(Vec::new, |scored| scored.rows);
        // What is shown elsewhere: charts as SVG, and the settings' samples.
        let mut shown: HashSet<OsString> =
            charts.iter().map(|chart| format!("{}.png", chart.name).into()).collect();
        let samples = samples(folder, &rows, &mut shown)?;
        let state = state(folder, &record);
        let number =
            |digits: usize| move |(name, value): (&String, &f64)| (name.clone(), format!("{value:.digits$}"));
        Ok(Self {
            name: named(&record, None),
            experiment: record.experiment.clone(),
            again: again(folder, &record, &state),
            state,
            is_finished: record.finished.is_some(),
            facts: facts(folder, &record)?,
            options: options(&record.options),
            figures: record.figures.iter().map(number(4)).collect(),
            seconds: record.seconds.iter().map(number(1)).collect(),
            charts: charts
                .iter()
                .map(|chart| Ok(Drawn { title: chart.title().to_string(), svg: chart.svg(folder)? }))
                .collect::<Result<_>>()?,
            by_epoch: pictures(&folder.join("samples_by_epoch"), &HashSet::new())?,
            samples,
            pictures: pictures(folder, &shown)?,
            table: table(&rows),
        })
    }
}

/// Whether it is finished, under way or stopped. Who writes into the folder holds its lock.
fn state(folder: &Path, record: &RunRecord) -> String {
    if let Some(finished) = &record.finished {
        return format!("finished {finished}");
    }
    match is_locked(folder) {
        Some(true) => UNDER_WAY.to_string(),
        Some(false) => "not finished: it was stopped, and --resume goes on with it".to_string(),
        None => "not finished".to_string(),
    }
}

/// What a reader asks first.
fn facts(folder: &Path, record: &RunRecord) -> Result<Vec<(String, String)>> {
    let revision = &record.git_revision;
    let versions: Vec<String> =
        record.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut facts = vec![
        ("experiment", record.experiment.clone()),
        ("begun", record.started.clone()),
        ("program", format!("{}, revision {}", versions.join(", "), short(revision))),
        ("computed on", format!("{}, {}, {} threads", record.device, record.cpu, record.threads)),
        ("seed", record.seed.to_string()),
        ("parameters", record.parameters.to_string()),
    ];
    if !record.resumed.is_empty() {
        facts.push(("gone on with", format!("{} times", record.resumed.len())));
    }
    for (experiment, model) in &record.models {
        facts.push(("uses the model", format!("{} of {experiment}", model.folder)));
    }
    let table = folder.join("train.csv");
    if is_there(&table)
        && let Some(last) = read_csv::<TrainRow>(&table)?.last()
    {
        let TrainRow { epoch, images, train_loss, test_loss, seconds, .. } = last;
        facts.push(("trained", format!("{epoch} epochs, {images} images, {seconds:.0} s")));
        facts.push((
            "loss",
            format!("{train_loss:.4} on the training images, {test_loss:.4} on the test images"),
        ));
    }
    Ok(facts.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

/// A revision as people write it, and whether files differed from it.
fn short(revision: &str) -> String {
    let (commit, differs) = revision.split_once('-').map_or((revision, ""), |(commit, _)| (commit, "-dirty"));
    format!("{}{differs}", commit.get(..12).unwrap_or(commit))
}

/// The options of run.json, those within others by their own names.
fn options(options: &Value) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, value) in options.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => all.extend(self::options(value)),
            Value::String(text) => drop(all.insert(name.clone(), text.clone())),
            other => drop(all.insert(name.clone(), other.to_string())),
        }
    }
    all
}

/// Shell commands that go on with a run that was stopped, or do one again: its own command line, but for where it wrote.
fn again(folder: &Path, record: &RunRecord, state: &str) -> String {
    let recipe = format!("just exp-{}", record.experiment.replace('_', "-"));
    if record.finished.is_none() && state != UNDER_WAY {
        return format!("{recipe} --resume {}", quoted(&folder.to_string_lossy()));
    }
    let mut words = record.command_line.iter().skip(1).map(String::as_str);
    let mut command = vec![recipe];
    while let Some(word) = words.next() {
        match word {
            "--out" => drop(words.next()),
            word if word.starts_with("--out=") => {}
            word => command.push(quoted(word).into_owned()),
        }
    }
    let checkout = match record.git_revision.strip_suffix("-dirty") {
        _ if record.git_revision == "unknown" => "# The program's revision is not known.".to_string(),
        Some(commit) => format!("git checkout {}  # Its files differed from this commit.", quoted(commit)),
        None => format!("git checkout {}", quoted(&record.git_revision)),
    };
    format!("{checkout}\n{}", command.join(" "))
}

/// The files that a setting's first samples may be in: as they are called now, in 22_no_t, and as schemas 1 and 2 called them.
fn samples_files(label: &str) -> [String; 3] {
    let now = label.replace(' ', "_");
    let without_marks = now.replace('σ', "sigma").replace(',', "");
    let older = without_marks.replace("s_churn", "churn").replace('=', "_");
    [now, without_marks, older].map(|name| format!("samples_{name}.png"))
}

/// The pictures of the settings that have one; their files' names are added to `shown`.
fn samples(folder: &Path, rows: &[SampleRow], shown: &mut HashSet<OsString>) -> Result<Vec<Samples>> {
    let mut all: Vec<Samples> = vec![];
    for summary in Summary::all(rows) {
        let label = summary.first().label();
        let Some(name) = samples_files(&label).into_iter().find(|name| is_there(&folder.join(name))) else {
            continue;
        };
        // Those of the fewer samples that a sweep of ρ draws are not pictured.
        if all.iter().all(|samples| samples.label != label) {
            let fid = format!("{:.1}", summary.figure(Figure::Fid));
            let picture = picture(&folder.join(&name), format!("the first samples of {label}"))?;
            all.push(Samples { label, fid, picture });
            shown.insert(name.into());
        }
    }
    Ok(all)
}

/// The PNGs of a folder in the order of their names, but those in `shown`; none where there is no such folder.
fn pictures(folder: &Path, shown: &HashSet<OsString>) -> Result<Vec<Picture>> {
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let mut names = vec![];
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let name = entry?.file_name();
        // A name that begins with a dot is that of a file that is being written.
        let is_picture =
            name.as_encoded_bytes().ends_with(b".png") && !name.as_encoded_bytes().starts_with(b".");
        if is_picture && !shown.contains(&name) {
            names.push(name);
        }
    }
    names.sort();
    let caption = |name: &OsString| name.to_string_lossy().trim_end_matches(".png").replace('_', " ");
    names.iter().map(|name| picture(&folder.join(name), caption(name))).collect()
}

fn picture(path: &Path, caption: String) -> Result<Picture> {
    let bytes = read_file(path)?;
    let damaged = || format!("{} is damaged", path.display());
    let mut png = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().with_context(damaged)?;
    let (width, height) = png.info().size();
    // The last row shows that all of it is there.
    while png.next_row().with_context(damaged)?.is_some() {}
    Ok(Picture {
        caption,
        source: format!("data:image/png;base64,{}", STANDARD.encode(&bytes)),
        width,
        height,
    })
}

fn table(rows: &[SampleRow]) -> Vec<Scored> {
    let labels = labels(rows);
    let mean = |summary: &Summary, of: fn(&SampleRow) -> Option<f64>| -> String {
        let values: Option<Vec<f64>> = summary.rows().iter().map(|row| of(row)).collect();
        values.map_or_else(String::new, |all| format!("{:.2}", all.iter().sum::<f64>() / all.len() as f64))
    };
    let scored = |summary: &Summary| {
        let row = summary.first();
        Scored {
            label: labels[summary.setting()].clone(),
            is_real: row.is_real(),
            n: row.n,
            seeds: summary.seeds(),
            nfe: row.nfe.map_or_else(String::new, |nfe| nfe.to_string()),
            fid: format!("{:.1}", summary.figure(Figure::Fid)),
            kid: format!("{:.2}", summary.figure(Figure::Kid)),
            density: mean(summary, |row| row.density),
            coverage: mean(summary, |row| row.coverage),
        }
    };
    Summary::all(rows).iter().map(scored).collect()
}
