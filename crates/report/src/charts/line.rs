//! Lines over an axis.

use super::{Axis, COLOURS, GREY, GRID, MARGIN, MARGIN_RIGHT, SIZE, Scale, TEXT, TITLE, draw_legend};
use crate::canvas::{Area, FAMILY, draw, drawing, text_width};
use anyhow::{Result, ensure};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// A chart that is being drawn.
type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<Axis, Axis>>;

/// The most series of a chart.
const MOST_SERIES: usize = 100;

/// How a [`Series`] is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// As a line; its points are marked where there are few.
    #[default]
    Line,
    /// As a filled curve behind the lines, scaled to two thirds of the chart's height: a density, say.
    Shade,
    /// As bars behind the lines, their middles evenly spaced at x: a histogram.
    Bars,
}

/// What a [`LineChart`] shows under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub role: Role,
    /// Its points (x, y).
    pub points: Vec<(f64, f64)>,
    /// Half the width of each y's interval, NaN where it is not known; empty where none is.
    pub half_widths: Vec<f64>,
}

impl Series {
    /// A line.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), role: Role::Line, points, half_widths: vec![] }
    }

    /// A line with half the width of each y's interval, drawn as a whisker up and down.
    pub fn with_half_widths(name: impl Into<String>, points: Vec<(f64, f64)>, half_widths: Vec<f64>) -> Self {
        Self { half_widths, ..Self::line(name, points) }
    }

    /// The ends of its whiskers, as (x, low, high).
    fn whiskers(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        self.points.iter().zip(&self.half_widths).map(|(&(x, y), &error)| (x, y - error, y + error))
    }

    /// Half the width of its bars.
    fn half_bar(&self) -> f64 {
        match self.points.as_slice() {
            [first, second, ..] => (second.0 - first.0) / 2.0,
            _ => 0.5,
        }
    }
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
    /// What it shows.
    pub series: Vec<Series>,
}

impl LineChart {
    /// A chart with even axes.
    pub fn new(title: &str, x_label: &str, y_label: &str, series: Vec<Series>) -> Self {
        Self {
            title: title.to_string(),
            x_label: x_label.to_string(),
            y_label: y_label.to_string(),
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            series,
        }
    }

    /// Draws it to `path` as PNG.
    ///
    /// # Errors
    /// When nothing finite is to be drawn, when there are more than 100 series, when a number is beyond 1e±150 or a bar is
    /// not finite, or when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        ensure!(
            self.series.len() <= MOST_SERIES,
            "a chart of {} series, more than {MOST_SERIES}",
            self.series.len()
        );
        for series in self.of(Role::Bars) {
            let finite = series.points.iter().all(|(x, y)| x.is_finite() && y.is_finite());
            ensure!(finite, "{} has bars that are not finite numbers", series.name);
        }
        for (_, y) in self.of(Role::Shade).flat_map(|series| &series.points) {
            let drawable = !y.is_finite() || y.abs() <= Scale::Linear.farthest();
            ensure!(drawable, "{y:e} is too large or too small to be drawn");
        }
        draw(path, SIZE, |area| self.paint(area))
    }

    fn paint(&self, area: &Area) -> Result<()> {
        let (x, y) = self.axes()?;
        let (bottom, top) = (y.range.start, y.range.end);
        let (x_ticks, y_ticks) = (x.ticks().len(), y.ticks().len());
        let y_width = y.ticks().iter().map(|t| text_width(&y.label(*t), TEXT)).collect::<Result<Vec<_>>>()?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FAMILY, TITLE))
            .margin(MARGIN)
            .margin_right(MARGIN_RIGHT)
            .x_label_area_size(52)
            .y_label_area_size(y_width.into_iter().max().unwrap_or(0) + 44)
            .build_cartesian_2d(x, y)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_labels(x_ticks)
            .y_labels(y_ticks)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GREY)
            .label_style((FAMILY, TEXT))
            .axis_desc_style((FAMILY, TEXT + 1))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .draw()
            .map_err(drawing)?;
        self.of(Role::Shade).try_for_each(|series| self.draw_shade(&mut chart, series, bottom..top))?;
        self.of(Role::Bars).try_for_each(|series| self.draw_bars(&mut chart, series))?;
        for (i, series) in self.of(Role::Line).enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            self.draw_whiskers(&mut chart, series, colour, bottom)?;
            self.draw_line(&mut chart, series, colour)?;
        }
        if self.series.len() > 1 {
            draw_legend(&mut chart, SeriesLabelPosition::UpperRight)?;
        }
        Ok(())
    }

    /// A point in the axes' own coordinates.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x_scale.to_axis(x), self.y_scale.to_axis(y))
    }

    /// A filled curve, two thirds as high as the chart.
    fn draw_shade(&self, chart: &mut Chart, series: &Series, height: Range<f64>) -> Result<()> {
        let highest = series.points.iter().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max);
        let place = |y: f64| height.start + (height.end - height.start) * 0.66 * y / highest;
        let points = series.points.iter().map(|&(x, y)| (self.x_scale.to_axis(x), place(y)));
        let curve: Vec<(f64, f64)> = points.filter(is_finite).collect();
        let fill = AreaSeries::new(curve, height.start, GREY.mix(0.18)).border_style(GREY.mix(0.4));
        let drawn = chart.draw_series(fill).map_err(drawing)?;
        let legend = |(x, y)| Rectangle::new([(x, y - 6), (x + 22, y + 6)], GREY.mix(0.3).filled());
        drawn.label(&series.name).legend(legend);
        Ok(())
    }

    fn draw_bars(&self, chart: &mut Chart, series: &Series) -> Result<()> {
        let fill = COLOURS[5].mix(0.5).filled();
        let half = series.half_bar();
        let bar =
            |&(x, y): &(f64, f64)| Rectangle::new([self.at((x - half, 0.0)), self.at((x + half, y))], fill);
        let drawn = chart.draw_series(series.points.iter().map(bar)).map_err(drawing)?;
        let legend = move |(x, y)| Rectangle::new([(x, y - 6), (x + 22, y + 6)], fill);
        drawn.label(&series.name).legend(legend);
        Ok(())
    }

    fn draw_whiskers(&self, chart: &mut Chart, series: &Series, colour: RGBColor, bottom: f64) -> Result<()> {
        let stroke = colour.stroke_width(2);
        for (x, low, high) in series.whiskers() {
            // Below zero a logarithmic axis ends.
            let (low, high) = (self.at((x, low)), self.at((x, high)));
            let low = (low.0, if low.1.is_finite() { low.1 } else { bottom });
            if !is_finite(&high) {
                continue;
            }
            chart.draw_series([PathElement::new([low, high], stroke)]).map_err(drawing)?;
            let ends =
                [low, high].map(|end| EmptyElement::at(end) + PathElement::new([(-5, 0), (5, 0)], stroke));
            chart.draw_series(ends).map_err(drawing)?;
        }
        Ok(())
    }

    /// A line; its points are marked where there are few.
    fn draw_line(&self, chart: &mut Chart, series: &Series, colour: RGBColor) -> Result<()> {
        let line: Vec<(f64, f64)> = series.points.iter().map(|&p| self.at(p)).filter(is_finite).collect();
        if line.len() <= 40 {
            let dots = line.iter().map(|&p| Circle::new(p, 4, colour.filled()));
            chart.draw_series(dots).map_err(drawing)?;
        }
        let drawn = chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).map_err(drawing)?;
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3));
        drawn.label(&series.name).legend(legend);
        Ok(())
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| series.role == role)
    }

    /// Axes that hold every line, whisker and bar; the legend stands in the air above them.
    fn axes(&self) -> Result<(Axis, Axis)> {
        let (mut xs, mut ys) = (vec![], vec![]);
        for series in self.of(Role::Line) {
            xs.extend(series.points.iter().map(|p| p.0));
            ys.extend(series.points.iter().map(|p| p.1));
            ys.extend(series.whiskers().flat_map(|(_, low, high)| [low, high]));
        }
        for series in self.of(Role::Bars) {
            let half = series.half_bar();
            xs.extend(series.points.iter().flat_map(|p| [p.0 - half, p.0 + half]));
            ys.extend(series.points.iter().map(|p| p.1).chain([0.0]));
        }
        let entries = self.series.len();
        let air = if entries > 1 { 0.05 + 0.1 * entries as f64 } else { 0.05 };
        let x = Axis::around(xs.into_iter(), self.x_scale, (0.02, 0.02))?;
        Ok((x, Axis::around(ys.into_iter(), self.y_scale, (0.04, air))?))
    }
}

fn is_finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}
