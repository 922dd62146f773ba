//! What stands in pictures: legends, names and texts, each where it can be read.

use anyhow::{Context, Result};
use elucidate_report::{
    Chart, Dot, DotChart, DotSet, LineChart, Picture, Scale, Series, ShareTable, labelled_rows,
};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

/// A text of an SVG and the place that it hangs on.
#[derive(Debug)]
struct Text {
    at: (f64, f64),
    text: String,
}

#[derive(Debug)]
struct Svg {
    size: (f64, f64),
    texts: Vec<Text>,
    /// Every point of every line.
    points: Vec<(f64, f64)>,
}

impl Svg {
    /// What `save` draws.
    fn of(save: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x.svg");
        save(&path)?;
        let svg = fs::read_to_string(&path)?;
        let document = roxmltree::Document::parse(&svg)?;
        let root = document.root_element();
        let number = |node: roxmltree::Node, name: &str| -> Result<f64> {
            Ok(node.attribute(name).with_context(|| format!("{node:?} has no {name}"))?.parse()?)
        };
        let mut texts = vec![];
        let mut points = vec![];
        for node in document.descendants() {
            if node.has_tag_name(("http://www.w3.org/2000/svg", "text")) {
                let text = node.text().unwrap_or("").trim().to_string();
                texts.push(Text { at: (number(node, "x")?, number(node, "y")?), text });
            }
            for point in node.attribute("points").unwrap_or("").split_whitespace() {
                let (x, y) = point.split_once(',').context("a point")?;
                points.push((x.parse()?, y.parse()?));
            }
        }
        Ok(Self { size: (number(root, "width")?, number(root, "height")?), texts, points })
    }

    fn place(&self, text: &str) -> (f64, f64) {
        self.texts.iter().find(|t| t.text == text).unwrap_or_else(|| panic!("no {text} in {self:?}")).at
    }
}

fn lines(n: usize) -> LineChart {
    let line = |i: usize| Series::line(format!("run {i}"), vec![(0.0, i as f64), (1.0, 2.0 * i as f64)]);
    LineChart::new("Title", "x", "y", (0..n).map(line).collect())
}

fn dots(rows: &[&str], sets: &[&str], values: &[f64], error: f64) -> DotChart {
    let dot = |&value: &f64| Some(Dot { value, error: Some(error), note: "differs".into() });
    let set = |name: &&str| DotSet { name: (*name).into(), dots: values.iter().map(dot).collect() };
    DotChart {
        title: "Title".into(),
        value_label: "FID".into(),
        rows: rows.iter().map(|row| (*row).to_string()).collect(),
        sets: sets.iter().map(set).collect(),
        reference: None,
    }
}

#[test]
fn a_legend_of_many_names_stands_beside_the_curves() -> Result<()> {
    let names: Vec<String> = (0..50).map(|i| format!("run {i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let few = Svg::of(|path| lines(7).save(path))?;
    assert_eq!(few.size, (960.0, 560.0));
    let many_dots = dots(&["heun", "euler"], &names, &[1.0, 2.0], 0.1);
    for many in [Svg::of(|path| lines(50).save(path))?, Svg::of(|path| many_dots.save(path))?] {
        // Marks of the legend are at most 30 pixels to the left of its names, and higher than the axis is wide.
        let legend = names.iter().map(|name| many.place(name).0).fold(f64::INFINITY, f64::min) - 31.0;
        assert!(legend > 920.0 && many.size.0 > legend + 80.0, "{legend} of {}", many.size.0);
        assert!(many.points.iter().all(|p| p.0 < 950.0 || p.0 >= legend));
        assert!(many.points.iter().filter(|p| p.0 < 950.0).count() >= 100);
        let lowest = names.iter().map(|name| many.place(name).1).fold(0.0, f64::max);
        assert!(lowest + 20.0 < many.size.1, "{lowest} of {}", many.size.1);
    }
    Ok(())
}

/// Whether something is drawn within 8 pixels of the left or right edge.
fn touches_a_side(path: &Path) -> Result<bool> {
    let mut png = png::Decoder::new(BufReader::new(File::open(path)?)).read_info()?;
    let mut bytes = vec![0; png.output_buffer_size().context("too large")?];
    let width = 3 * png.next_frame(&mut bytes)?.width as usize;
    let mut sides = bytes.chunks(width).flat_map(|row| row[..24].iter().chain(&row[width - 24..]));
    Ok(sides.any(|&value| value != 255))
}

#[test]
fn texts_behind_dots_are_whole_on_both_sides_of_zero() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("x.png");
    for scale in [1.0, 1e-3, 1e6] {
        for values in [[-33.17, 5.95], [-8.85, -5.57], [-0.5, 0.0], [3.0, 40.0], [-70.0, -69.0], [-1e4, 1e4]]
        {
            for error in [0.0, 0.1, 7.85] {
                dots(&["heun 20", "euler"], &[""], &values.map(|value| value * scale), error * scale)
                    .save(&path)?;
                assert!(!touches_a_side(&path)?, "{values:?} ± {error}, times {scale}");
            }
        }
    }
    let far =
        DotChart { reference: Some(("real images".into(), 9.0)), ..dots(&["a"], &["run"], &[1.0], 0.1) };
    far.save(&path)?;
    assert!(!touches_a_side(&path)?, "the reference");
    Ok(())
}

#[test]
fn long_and_foreign_names_are_read_and_leave_room_in_every_picture() -> Result<()> {
    let long = |end: &str| format!("{}{end}", "heun with very many options ".repeat(8));
    let (a, b) = (long("a"), long("b"));
    let names = [a.as_str(), b.as_str(), "北京", "背景"];
    let picture = Picture { width: 28, pixels: vec![100; 784] };
    let line = |name: &&str| Series::line(*name, vec![(0.0, 1.0), (1.0, 2.0)]);
    let chart = LineChart::new(&long(""), "x", "y", names.iter().map(line).collect());
    let rows: Vec<_> = names.map(|name| (name, vec![picture.clone()])).into();
    let table = ShareTable {
        title: long(""),
        columns: vec!["Bag".into()],
        rows: names.iter().map(|name| ((*name).to_string(), vec![1.0])).collect(),
    };
    for svg in [
        Svg::of(|path| chart.save(path))?,
        Svg::of(|path| dots(&names, &[&long("")], &[1.0; 4], 0.1).save(path))?,
        Svg::of(|path| dots(&["x"], &names, &[1.0], 0.1).save(path))?,
        Svg::of(|path| table.save(path))?,
        Svg::of(|path| labelled_rows(path, &rows, &["日本".into()]))?,
    ] {
        assert!(svg.size.0 < 1300.0, "{}", svg.size.0);
        svg.place("Bei Jing");
        svg.place("Bei Jing (2)");
        let long: Vec<&str> =
            svg.texts.iter().map(|t| t.text.as_str()).filter(|t| t.starts_with("heun")).collect();
        let different: HashSet<&str> = long.iter().copied().filter(|t| t.ends_with(['a', 'b'])).collect();
        assert!(different.len() == 2 && long.iter().all(|t| t.contains('…') && t.len() < 120), "{long:?}");
    }
    Ok(())
}

#[test]
fn a_symmetric_logarithmic_axis_has_zero_and_powers_of_ten_to_both_sides() -> Result<()> {
    let points = vec![(0.0, -0.5), (1.0, 0.0), (2.0, 1.0), (3.0, 300.0), (4.0, -20.0), (5.0, 100.0)];
    let chart = LineChart {
        y_scale: Scale::SymLog,
        ..LineChart::new("Title", "x", "y", vec![Series::line("a", points)])
    };
    let svg = Svg::of(|path| chart.save(path))?;
    let y = |tick: &str| svg.place(tick).1;
    // Of the y axis: the x axis has a 0 and a 1 too, further down.
    let step = y("-10") - y("-1");
    let (minus_one, zero, one) = (y("-1"), y("0"), y("1"));
    for (upper, lower) in [("100", "10"), ("10", "1"), ("1", "0"), ("0", "-1")] {
        assert!((y(lower) - y(upper) - step).abs() <= 1.0, "from {lower} to {upper}: {svg:?}");
    }
    assert!(minus_one > zero && zero > one);
    let on_line = |y: f64| svg.points.iter().filter(|p| (p.1 - y).abs() <= 1.5).count();
    // Two points of each are the tick's.
    assert!(on_line(zero) >= 5, "a line at 0 and the point: {svg:?}");
    assert!(on_line(y("100")) >= 3 && on_line(one) >= 3, "points at their ticks: {svg:?}");
    Ok(())
}
