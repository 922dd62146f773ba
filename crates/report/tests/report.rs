//! Charts, grids and tables: what is drawn is there, what cannot be drawn is an error, equal data makes equal files.

use anyhow::Result;
use elucidate_report::{
    Bar, BarChart, LineChart, Picture, RunRecord, SampleRow, Scale, Series, TrainRow, labelled_rows,
    picture_grid, read_csv, read_json, write_csv, write_json,
};
use image::{ImageReader, RgbImage};
use std::path::Path;

fn read(path: &Path) -> Result<RgbImage> {
    Ok(ImageReader::open(path)?.decode()?.to_rgb8())
}

/// Pixels that are close to a colour.
fn count(picture: &RgbImage, colour: [u8; 3]) -> usize {
    picture.pixels().filter(|p| p.0.iter().zip(colour).all(|(&a, b)| a.abs_diff(b) < 12)).count()
}

const BLUE: [u8; 3] = [0, 114, 178];
const ORANGE: [u8; 3] = [213, 94, 0];
/// The blue of bars, which are a little transparent.
const BAR: [u8; 3] = [38, 135, 190];

fn line(points: Vec<(f64, f64)>) -> LineChart {
    LineChart::new("Title", "σ", "loss", vec![Series { name: "one".into(), points }])
}

#[test]
fn lines_are_drawn_and_equal_data_makes_equal_files() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (a, b) = (dir.path().join("a.png"), dir.path().join("b.png"));
    let mut chart = line((1..50).map(|i| (f64::from(i) / 10.0, f64::from(i * i))).collect());
    chart.series.push(Series { name: "two".into(), points: vec![(0.5, 100.0), (4.0, 2000.0)] });
    chart.x_scale = Scale::Log;
    chart.y_scale = Scale::Log;
    chart.save(&a)?;
    chart.save(&b)?;
    assert_eq!(std::fs::read(&a)?, std::fs::read(&b)?);
    let picture = read(&a)?;
    assert_eq!(picture.dimensions(), (960, 560));
    assert!(count(&picture, BLUE) > 1000 && count(&picture, ORANGE) > 1000);
    Ok(())
}

#[test]
fn a_longer_bar_has_more_colour_and_the_floor_is_a_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("bars.png");
    let bar = |label: &str, value| Bar { label: label.into(), value, note: "99 evaluations".into() };
    let chart = |first| BarChart {
        title: "FID".into(),
        value_label: "FID".into(),
        bars: vec![bar("heun 50", first), bar("euler_ancestral 100, η 0.5", 10.0)],
        reference: Some(("real images".into(), 2.0)),
    };
    chart(5.0).save(&path)?;
    let (short, floor) = (count(&read(&path)?, BAR), count(&read(&path)?, ORANGE));
    chart(9.0).save(&path)?;
    let long = count(&read(&path)?, BAR);
    assert!(long as f64 > 1.15 * short as f64, "{short} and {long} pixels");
    assert!(floor > 200);
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
    let bars = (0..12)
        .map(|i| Bar { label: format!("bar {i}"), value: f64::from(i), note: String::new() })
        .collect();
    BarChart { title: String::new(), value_label: String::new(), bars, reference: None }.save(&path)?;
    Ok(())
}

#[test]
fn what_cannot_be_drawn_is_an_error_and_leaves_no_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("chart.png");
    assert!(line(vec![]).save(&path).is_err());
    assert!(line(vec![(f64::NAN, 1.0)]).save(&path).is_err());
    let bars = vec![Bar { label: "a".into(), value: f64::INFINITY, note: String::new() }];
    for bars in [bars, vec![]] {
        let chart = BarChart { title: String::new(), value_label: String::new(), bars, reference: None };
        assert!(chart.save(&path).is_err());
    }
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
    assert_eq!(read(&path)?.pixels().filter(|p| p.0 == [100; 3]).count(), 12 * 4);
    labelled_rows(&path, &[("noised", vec![grey.clone()]), ("true", vec![grey])], &["σ 0.64".into()])?;
    assert!(count(&read(&path)?, [0, 0, 0]) > 20, "labels and titles are drawn");
    Ok(())
}

fn sample_row() -> SampleRow {
    SampleRow {
        experiment: "23_karras".into(),
        run: "quick".into(),
        sampler: "heun".into(),
        steps: Some(20),
        nfe: Some(39),
        rho: Some(7.0),
        sigma_min: Some(0.01),
        sigma_max: Some(80.0),
        eta: None,
        s_churn: Some(0.5),
        order: None,
        seed: 3,
        n: 2048,
        fid: 5.25,
        kid: -0.001,
        seconds: 12.5,
        kid_std_err: 0.0002,
        kid_chunks: 0.01,
        n_real: 10_000,
        preset: "quick".into(),
        epochs: 4,
        batch_size: 64,
        blocks: "16-32".into(),
        parameters: 1000,
        sigma_data: Some(0.66),
        data_sha256: "a".into(),
        classifier_sha256: "b".into(),
        checkpoint_sha256: "c".into(),
        git_revision: "d".into(),
        device: "cpu".into(),
        threads: 2,
        variant: None,
    }
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

    let record = RunRecord {
        schema_version: 1,
        experiment: "23_karras".into(),
        run: "quick".into(),
        command_line: vec!["exp".into()],
        options: serde_json::json!({ "seed": 1 }),
        seed: 1,
        git_revision: "abc".into(),
        versions: [("candle".to_string(), "0.11".to_string())].into(),
        started: "now".into(),
        finished: None,
        seconds: [("training".to_string(), 1.5)].into(),
        threads: 2,
        device: "cpu".into(),
        cpu: "some".into(),
        data_source: "data".into(),
        data_sha256: "a".into(),
        classifier_sha256: "b".into(),
        checkpoint_sha256: None,
        parameters: 7,
        figures: [("data std".to_string(), 0.66)].into(),
    };
    let path = dir.path().join("run.json");
    write_json(&path, &record)?;
    assert_eq!(read_json::<RunRecord>(&path)?, record);
    std::fs::write(&path, "{")?;
    assert!(read_json::<RunRecord>(&path).is_err());
    Ok(())
}
