//! Charts, grids and tables: what is drawn is there, what cannot be drawn is an error, equal data makes equal files.

mod common;

use anyhow::{Context, Result, ensure};
use common::{record, sample_row};
use elucidate_report::{
    Chart, Dot, DotChart, DotSet, LineChart, Picture, Role, RunRecord, SCHEMA_VERSION, SampleRow, Scale,
    ScoredRun, Series, ShareTable, TrainRow, labelled_rows, picture_grid, read_csv, read_json, write_csv,
    write_json,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// A picture as it is read: its size, and its pixels from left to right and from top to bottom.
struct Rgb {
    size: (u32, u32),
    pixels: Vec<[u8; 3]>,
}

fn read(path: &Path) -> Result<Rgb> {
    let mut png = png::Decoder::new(BufReader::new(File::open(path)?)).read_info()?;
    let mut bytes = vec![0; png.output_buffer_size().context("too large")?];
    let info = png.next_frame(&mut bytes)?;
    ensure!(info.color_type == png::ColorType::Rgb, "{} is {:?}", path.display(), info.color_type);
    Ok(Rgb { size: (info.width, info.height), pixels: bytes.as_chunks().0.to_vec() })
}

/// Pixels that are close to a colour.
fn count(picture: &Rgb, colour: [u8; 3]) -> usize {
    picture.pixels.iter().filter(|p| p.iter().zip(colour).all(|(&a, b)| a.abs_diff(b) < 12)).count()
}

const BLUE: [u8; 3] = [0, 114, 178];
const ORANGE: [u8; 3] = [213, 94, 0];
fn line(points: Vec<(f64, f64)>) -> LineChart {
    LineChart::new("Title", "σ", "loss", vec![Series::line("one", points)])
}

#[test]
fn lines_are_drawn_and_equal_data_makes_equal_files() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (a, b) = (dir.path().join("a.png"), dir.path().join("b.png"));
    let mut chart = line((1..50).map(|i| (f64::from(i) / 10.0, f64::from(i * i))).collect());
    chart.series.push(Series::line("two", vec![(0.5, 100.0), (4.0, 2000.0)]));
    chart.x_scale = Scale::Log;
    chart.y_scale = Scale::Log;
    chart.save(&a)?;
    chart.save(&b)?;
    assert_eq!(std::fs::read(&a)?, std::fs::read(&b)?);
    let picture = read(&a)?;
    assert_eq!(picture.size, (960, 560));
    assert!(count(&picture, BLUE) > 1000 && count(&picture, ORANGE) > 1000);
    Ok(())
}

#[test]
fn bars_shades_and_whiskers_are_drawn() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("chart.png");
    let save = |series: Vec<Series>| -> Result<Rgb> {
        LineChart { series, ..line(vec![]) }.save(&path)?;
        read(&path)
    };
    let points = vec![(1.0, 2.0), (2.0, 5.0), (3.0, 3.0)];
    let plain = save(vec![Series::line("a", points.clone())])?;
    let errors = save(vec![Series::with_half_widths("a", points.clone(), vec![1.0, 0.5, 1.5])])?;
    assert!(count(&errors, BLUE) > count(&plain, BLUE) + 100);
    let light_blue = |picture: &Rgb| count(picture, [170, 217, 244]);
    let bars = save(vec![Series { role: Role::Bars, ..Series::line("a", points.clone()) }])?;
    assert!(light_blue(&bars) > 20_000 && light_blue(&plain) < 100);
    let shade = Series { role: Role::Shade, ..Series::line("b", points.clone()) };
    let shaded = save(vec![Series::line("a", points), shade])?;
    assert!(count(&shaded, [229, 229, 229]) > 20_000);
    Ok(())
}

fn dots(values: &[f64], error: Option<f64>) -> DotChart {
    let dot = |&value: &f64| Some(Dot { value, error, note: "99 evaluations".into() });
    DotChart {
        title: "FID".into(),
        value_label: "FID".into(),
        rows: (0..values.len()).map(|i| format!("sampler {i}, η 0.5")).collect(),
        sets: vec![DotSet { name: "run".into(), dots: values.iter().map(dot).collect() }],
        reference: None,
    }
}

#[test]
fn a_larger_error_has_a_longer_whisker_and_the_floor_is_a_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("dots.png");
    let drawn = |chart: DotChart| -> Result<Rgb> {
        chart.save(&path)?;
        read(&path)
    };
    let [none, short, long] =
        [None, Some(1.0), Some(3.0)].map(|error| drawn(dots(&[5.0, 10.0], error)).map(|p| count(&p, BLUE)));
    let (none, short, long) = (none?, short?, long?);
    assert!(none > 100 && short > none + 50 && long > short + 200, "{none}, {short} and {long} pixels");
    let floor = DotChart { reference: Some(("real images".into(), 2.0)), ..dots(&[5.0, 10.0], None) };
    assert!(count(&drawn(floor)?, ORANGE) > 150);
    // A second run stands beside the first in a colour of its own.
    let mut two = dots(&[5.0, 10.0], None);
    two.sets.push(DotSet { name: "other".into(), dots: vec![None, two.sets[0].dots[1].clone()] });
    assert!(count(&drawn(two)?, [0, 158, 115]) > 50);
    Ok(())
}

#[test]
fn a_class_that_is_dropped_has_a_colour() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("classes.png");
    let table = |bags: f64| ShareTable {
        title: "Classes".into(),
        columns: vec!["Bag".into(), "Others".into()],
        rows: vec![("real".into(), vec![0.1, 0.9]), ("heun 20".into(), vec![bags, 1.0 - bags])],
    };
    // Three quarters of the colour of what is rare.
    let rare = [64, 149, 197];
    table(0.1).save(&path)?;
    assert_eq!(count(&read(&path)?, rare), 0);
    table(0.01).save(&path)?;
    assert!(count(&read(&path)?, rare) > 1000);
    let uneven = ShareTable { columns: vec!["Bag".into()], ..table(0.1) };
    assert!(uneven.save(&path).is_err());
    Ok(())
}

#[test]
fn extremes_are_drawn() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("chart.png");
    for points in [
        vec![(1.0, 1.0)],
        vec![(1.0, 5.0), (2.0, 5.0)],
        vec![(0.0, 0.0), (1.0, 0.0)],
        vec![(1.0, f64::NAN), (2.0, 3.0)],
        vec![(-1e9, 1e-9), (1e9, 2e-9)],
    ] {
        line(points.clone()).save(&path)?;
        assert!(count(&read(&path)?, BLUE) > 10, "{points:?}");
    }
    dots(&[0.0], None).save(&path)?;
    dots(&[-3.0, 1e6, 0.0], Some(0.0)).save(&path)?;
    Ok(())
}

#[test]
fn what_cannot_be_drawn_is_an_error_and_leaves_no_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("chart.png");
    assert!(line(vec![]).save(&path).is_err());
    assert!(line(vec![(f64::NAN, 1.0)]).save(&path).is_err());
    assert!(dots(&[], None).save(&path).is_err());
    assert!(dots(&[f64::INFINITY], None).save(&path).is_err());
    assert!(dots(&[1.0], Some(f64::NAN)).save(&path).is_err());
    assert!(picture_grid(&path, &[], 3, &[]).is_err());
    let small = Picture { width: 2, pixels: vec![0; 4] };
    let large = Picture { width: 3, pixels: vec![0; 9] };
    assert!(picture_grid(&path, &[small.clone(), large], 3, &[]).is_err());
    assert!(picture_grid(&path, std::slice::from_ref(&small), 3, &["a".into(), "b".into()]).is_err());
    assert!(!path.exists());
    assert!(picture_grid(&dir.path().join("no/such/folder.png"), &[small], 3, &[]).is_err());
    Ok(())
}

#[test]
fn a_grids_pixels_are_the_pictures() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("grid.png");
    let picture = Picture::from_range(&[-1.0, 0.0, 1.0, 7.0], 2, -1.0, 1.0);
    assert_eq!(picture.pixels, [0, 128, 255, 255]);
    let grey = Picture { width: 2, pixels: vec![100; 4] };
    picture_grid(&path, &[grey.clone(), grey.clone(), grey.clone()], 2, &[])?;
    // Each of 12 pixels is drawn two by two.
    assert_eq!(read(&path)?.pixels.iter().filter(|&&p| p == [100; 3]).count(), 12 * 4);
    labelled_rows(&path, &[("noised", vec![grey.clone()]), ("true", vec![grey])], &["σ 0.64".into()])?;
    assert!(count(&read(&path)?, [0, 0, 0]) > 20, "labels and titles are drawn");
    Ok(())
}

#[test]
fn tables_and_records_come_back_as_they_were() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("samples.csv");
    let rows = [sample_row(), SampleRow { sampler: "real".into(), steps: None, ..sample_row() }];
    write_csv(&path, &rows)?;
    assert_eq!(read_csv::<SampleRow>(&path)?, rows);
    let header =
        "experiment,run,sampler,steps,nfe,rho,sigma_min,sigma_max,eta,s_churn,order,seed,n,fid,kid,seconds,";
    assert!(std::fs::read_to_string(&path)?.starts_with(header));
    assert!(read_csv::<TrainRow>(&path).is_err());
    let error = read_csv::<SampleRow>(&dir.path().join("none.csv")).expect_err("it is not there");
    assert!(format!("{error:#}").contains("none.csv"));

    let record = record();
    let path = dir.path().join("run.json");
    write_json(&path, &record)?;
    assert_eq!(read_json::<RunRecord>(&path)?, record);
    assert_eq!(RunRecord::read(dir.path())?, record);
    write_json(&path, &RunRecord { schema_version: SCHEMA_VERSION + 1, ..record })?;
    let error = RunRecord::read(dir.path()).expect_err("it is newer");
    let newer = format!("run.json is of schema version {}", SCHEMA_VERSION + 1);
    assert!(error.to_string().contains(&newer), "{error}");
    std::fs::write(&path, "{")?;
    assert!(read_json::<RunRecord>(&path).is_err());
    Ok(())
}

#[test]
fn runs_of_every_schema_so_far_are_read() -> Result<()> {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results");
    let mut versions = BTreeSet::new();
    for experiment in std::fs::read_dir(results)? {
        for run in std::fs::read_dir(experiment?.path()).into_iter().flatten() {
            let run = run?.path();
            // The merged tables of sweeps have none.
            if !run.join("run.json").exists() {
                continue;
            }
            versions.insert(RunRecord::read(&run)?.schema_version);
            if run.join("samples.csv").exists() {
                assert!(!ScoredRun::read(&run)?.rows.is_empty(), "{}", run.display());
            }
        }
    }
    assert!(versions.contains(&1) && versions.contains(&2), "{versions:?}");
    Ok(())
}
