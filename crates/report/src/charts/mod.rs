//! Charts: plain data in, a PNG out.

use crate::canvas::{Area, FAMILY, draw, drawing, text_width};
use anyhow::{Result, ensure};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

/// Colours that colour-blind people tell apart too (Okabe & Ito 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const GREY: RGBColor = RGBColor(110, 110, 110);
const SIZE: (u32, u32) = (960, 560);
const TITLE: u32 = 24;
const TEXT: u32 = 18;
const MARGIN: u32 = 16;
/// Wider, for half of the last number on the axis.
const MARGIN_RIGHT: u32 = 28;

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By factors; values must be above 0.
    Log,
}

impl Scale {
    fn to_axis(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        }
    }
}

/// A line of a [`LineChart`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points (x, y).
    pub points: Vec<(f64, f64)>,
}

/// Lines over an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// Above the chart.
    pub title: String,
    /// Below it, with units.
    pub x_label: String,
    /// Beside it, with units.
    pub y_label: String,
    /// Of the x axis.
    pub x_scale: Scale,
    /// Of the y axis.
    pub y_scale: Scale,
    /// The lines; points are marked where there are few.
    pub series: Vec<Series>,
    /// A filled curve behind the lines, scaled to two thirds of the chart's height: a density, say.
    pub shade: Option<Series>,
    /// Bars behind the lines, as (from, to, height): a histogram.
    pub bars: Vec<(f64, f64, f64)>,
}

/// A bar of a [`BarChart`].
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// At its left.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// Behind the value, in brackets: its network evaluations, say. May be empty.
    pub note: String,
}

/// Bars from left to right, one below the other.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// Above the chart.
    pub title: String,
    /// Below it, with units.
    pub value_label: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
    /// A line across all bars: its name and value.
    pub reference: Option<(String, f64)>,
}

/// Round numbers at even distances, about seven of them; only whole ones where `whole` says so.
fn even_ticks(from: f64, to: f64, whole: bool) -> Vec<f64> {
    let rough = (to - from) / 7.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
    let step = if whole { step.max(1.0) } else { step };
    let first = (from / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= to + 1e-9 * step).collect()
}

/// An axis from one number to another with round numbers on it.
struct Axis {
    scale: Scale,
    /// Already through [`Scale::to_axis`].
    range: Range<f64>,
    /// Whether only whole numbers are on it (epochs, steps): halves would mean nothing.
    whole: bool,
}

impl Axis {
    /// From the smallest to the largest value, with some air at the ends named.
    fn around(values: impl Iterator<Item = f64>, scale: Scale, air: (f64, f64)) -> Result<Self> {
        let mut range = f64::INFINITY..f64::NEG_INFINITY;
        let mut whole = true;
        for value in values {
            let place = scale.to_axis(value);
            if place.is_finite() {
                range = range.start.min(place)..range.end.max(place);
                whole &= value.fract() == 0.0;
            }
        }
        ensure!(range.start <= range.end, "a chart of no finite values");
        let mut span = range.end - range.start;
        if span == 0.0 {
            span = range.start.abs().max(1.0) * 0.1;
            range = range.start - span..range.end + span;
        }
        Ok(Self { scale, range: range.start - air.0 * span..range.end + air.1 * span, whole })
    }

    /// Round numbers on it, in the axis' own coordinates: at most about ten.
    fn ticks(&self) -> Vec<f64> {
        let (from, to) = (self.range.start, self.range.end);
        if self.scale == Scale::Log {
            let decades = from.floor() as i32..=to.ceil() as i32;
            let steps: &[f64] = match to - from {
                span if span < 1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
                span if span < 2.5 => &[1.0, 2.0, 5.0],
                _ => &[1.0],
            };
            let all = decades.flat_map(|d| steps.iter().map(move |s| f64::from(d) + s.log10()));
            let ticks: Vec<f64> = all.filter(|tick| (from..=to).contains(tick)).collect();
            if ticks.len() > 1 {
                return ticks;
            }
            // The range lies between two of them.
            return even_ticks(10f64.powf(from), 10f64.powf(to), false).into_iter().map(f64::log10).collect();
        }
        even_ticks(from, to, self.whole)
    }

    fn label(&self, tick: f64) -> String {
        let value = match self.scale {
            Scale::Linear => tick,
            Scale::Log => 10f64.powf(tick),
        };
        let text = match value.abs() {
            0.0 => "0".to_string(),
            size if size >= 1e5 => format!("{}k", value / 1e3),
            size if size < 1e-4 => format!("{value:.0e}"),
            _ => format!("{value:.5}"),
        };
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
            false => text,
        }
    }
}

impl Ranged for Axis {
    type ValueType = f64;
    type FormatOption = NoDefaultFormatting;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

impl LineChart {
    /// A chart with even axes and nothing behind its lines.
    pub fn new(title: &str, x_label: &str, y_label: &str, series: Vec<Series>) -> Self {
        Self {
            title: title.to_string(),
            x_label: x_label.to_string(),
            y_label: y_label.to_string(),
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            series,
            shade: None,
            bars: vec![],
        }
    }

    /// Draws it to `path` as PNG.
    ///
    /// # Errors
    /// When nothing finite is to be drawn, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        draw(path, SIZE, |area| self.paint(area))
    }

    fn paint(&self, area: &Area) -> Result<()> {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let bars = || self.bars.iter().copied();
        let x = points().map(|p| p.0).chain(bars().flat_map(|(from, to, _)| [from, to]));
        let floor = bars().map(|_| 0.0);
        let y = points().map(|p| p.1).chain(bars().map(|bar| bar.2)).chain(floor);
        // The legend stands in the air over the lines.
        let entries = self.series.len() + usize::from(self.shade.is_some());
        let air = if entries > 1 { 0.05 + 0.09 * entries as f64 } else { 0.05 };
        let (x, y) =
            (Axis::around(x, self.x_scale, (0.02, 0.02))?, Axis::around(y, self.y_scale, (0.04, air))?);
        let (bottom, top) = (y.range.start, y.range.end);
        let (x_ticks, y_ticks) = (x.ticks().len(), y.ticks().len());
        let y_width = y.ticks().iter().map(|t| text_width(&y.label(*t), TEXT)).collect::<Result<Vec<_>>>()?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FAMILY, TITLE))
            .margin(16)
            .margin_right(28)
            .x_label_area_size(52)
            .y_label_area_size(y_width.into_iter().max().unwrap_or(0) + 44)
            .build_cartesian_2d(x, y)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_labels(x_ticks)
            .y_labels(y_ticks)
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .axis_style(GREY)
            .label_style((FAMILY, TEXT))
            .axis_desc_style((FAMILY, TEXT + 1))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .draw()
            .map_err(drawing)?;
        let at = |(x, y): (f64, f64)| (self.x_scale.to_axis(x), self.y_scale.to_axis(y));
        let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
        if let Some(shade) = &self.shade {
            let highest = shade.points.iter().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max);
            let height = |y: f64| bottom + (top - bottom) * 0.66 * y / highest;
            let curve: Vec<(f64, f64)> = shade
                .points
                .iter()
                .map(|&(x, y)| (self.x_scale.to_axis(x), height(y)))
                .filter(finite)
                .collect();
            let fill = AreaSeries::new(curve, bottom, GREY.mix(0.18)).border_style(GREY.mix(0.4));
            let drawn = chart.draw_series(fill).map_err(drawing)?;
            drawn
                .label(&shade.name)
                .legend(|(x, y)| Rectangle::new([(x, y - 6), (x + 22, y + 6)], GREY.mix(0.3).filled()));
        }
        let rectangles = bars().map(|(from, to, height)| {
            let corners = [at((from, 0.0)), at((to, height))];
            Rectangle::new(corners, COLOURS[5].mix(0.5).filled())
        });
        chart.draw_series(rectangles).map_err(drawing)?;
        for (i, series) in self.series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let line: Vec<(f64, f64)> = series.points.iter().map(|&p| at(p)).filter(finite).collect();
            if line.len() <= 40 {
                let dots = line.iter().map(|&p| Circle::new(p, 4, colour.filled()));
                chart.draw_series(dots).map_err(drawing)?;
            }
            let drawn = chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).map_err(drawing)?;
            let legend = move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3));
            drawn.label(&series.name).legend(legend);
        }
        if entries > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .legend_area_size(30)
                .margin(12)
                .label_font((FAMILY, TEXT))
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(200, 200, 200))
                .draw()
                .map_err(drawing)?;
        }
        Ok(())
    }
}

impl Bar {
    /// What stands behind it: its value and note.
    fn text(&self) -> String {
        match self.note.as_str() {
            "" => format!("{:.2}", self.value),
            note => format!("{:.2} ({note})", self.value),
        }
    }
}

impl BarChart {
    /// Draws it to `path` as PNG.
    ///
    /// # Errors
    /// When there are no bars or one is not finite, or when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        ensure!(!self.bars.is_empty(), "a bar chart of no bars");
        for bar in &self.bars {
            ensure!(bar.value.is_finite(), "the bar {} is {}: not a finite number", bar.label, bar.value);
        }
        let height = 150 + 40 * self.bars.len() as u32;
        draw(path, (SIZE.0, height), |area| self.paint(area))
    }

    fn paint(&self, area: &Area) -> Result<()> {
        use plotters::style::text_anchor::{HPos, Pos, VPos};
        let widths = self.bars.iter().map(|bar| text_width(&bar.label, TEXT)).collect::<Result<Vec<_>>>()?;
        let label_width = widths.into_iter().max().unwrap_or(0) + 16;
        let width = f64::from(SIZE.0.saturating_sub(label_width + MARGIN + MARGIN_RIGHT));
        // The axis ends where the text behind the longest bars does.
        let mut ends = vec![0.0];
        for bar in &self.bars {
            let text = f64::from(text_width(&bar.text(), TEXT)? + 16);
            ends.push(bar.value / (1.0 - text / width).max(0.2));
        }
        let x = Axis::around(
            ends.into_iter().chain(self.reference.iter().map(|r| r.1)),
            Scale::Linear,
            (0.0, 0.0),
        )?;
        let x_ticks = x.ticks().len();
        let zero = x.range.start.max(0.0);
        let rows = self.bars.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FAMILY, TITLE))
            .margin(MARGIN)
            .margin_right(MARGIN_RIGHT)
            .x_label_area_size(56)
            .y_label_area_size(label_width)
            .build_cartesian_2d(x, -0.8..rows)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_labels(x_ticks)
            .disable_y_mesh()
            .y_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .axis_style(GREY)
            .label_style((FAMILY, TEXT))
            .axis_desc_style((FAMILY, TEXT + 1))
            .x_desc(&self.value_label)
            .draw()
            .map_err(drawing)?;
        let place = |i: usize| rows - 1.0 - i as f64;
        let bars = self.bars.iter().enumerate().map(|(i, bar)| {
            Rectangle::new(
                [(zero, place(i) + 0.1), (bar.value, place(i) + 0.8)],
                COLOURS[0].mix(0.85).filled(),
            )
        });
        chart.draw_series(bars).map_err(drawing)?;
        if let Some((name, value)) = &self.reference {
            let line = LineSeries::new([(*value, -0.8), (*value, rows)], COLOURS[1].stroke_width(2));
            chart.draw_series(line).map_err(drawing)?;
            let style = (FAMILY, TEXT).into_font().color(&COLOURS[1]).pos(Pos::new(HPos::Left, VPos::Center));
            let text =
                EmptyElement::at((*value, -0.4)) + Text::new(format!("{name} {value:.2}"), (8, 0), style);
            chart.draw_series([text]).map_err(drawing)?;
        }
        for (i, bar) in self.bars.iter().enumerate() {
            let style = (FAMILY, TEXT).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            let after = (bar.value.max(zero), place(i) + 0.45);
            let text = EmptyElement::at(after) + Text::new(bar.text(), (8, 0), style);
            chart.draw_series([text]).map_err(drawing)?;
            let style = (FAMILY, TEXT).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
            let (_, y) = chart.backend_coord(&(zero, place(i) + 0.45));
            let (x, _) = chart.backend_coord(&(zero, 0.0));
            area.draw(&Text::new(bar.label.clone(), (x - 10, y), style)).map_err(drawing)?;
        }
        Ok(())
    }
}
