//! Lines over an axis.

use super::legend::{self, Entry, FEW, Mark};
use super::{
    Axis, COLOURS, GREY, GRID, MARGIN, MARGIN_RIGHT, SIZE, Scale, Shown, TEXT, TITLE, shown_names,
    shown_title, widest,
};
use crate::canvas::{Area, Drawing, FAMILY, failed};
use crate::summary::Estimate;
use anyhow::{Result, ensure};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A chart that is being drawn.
type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<Axis, Axis>>;

/// What stands above and below the axes.
const ABOVE_AND_BELOW: u32 = 130;

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

    /// A line of estimates, each with its interval where it is known.
    pub fn of_estimates(name: impl Into<String>, points: &[(f64, Estimate)]) -> Self {
        let half_widths = points.iter().map(|(_, y)| y.half_width().unwrap_or(f64::NAN)).collect();
        Self::with_half_widths(name, points.iter().map(|(x, y)| (*x, y.mean)).collect(), half_widths)
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

    fn names(&self) -> Vec<&str> {
        self.series.iter().map(|series| series.name.as_str()).collect()
    }

    /// In the order in which they are drawn.
    fn legend(&self) -> Vec<Entry<'_>> {
        let of = |role, mark: fn(usize) -> Mark| {
            self.of(role).enumerate().map(move |(i, series)| (mark(i), series.name.as_str()))
        };
        let shades = of(Role::Shade, |_| Mark::Patch(GREY.mix(0.3)));
        let bars = of(Role::Bars, |_| Mark::Patch(bars_colour()));
        shades.chain(bars).chain(of(Role::Line, |i| Mark::Line(line_colour(i)))).collect()
    }

    /// A point in the axes' own coordinates.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x_scale.to_axis(x), self.y_scale.to_axis(y))
    }

    /// A filled curve, two thirds as high as the chart.
    fn draw_shade<B: DrawingBackend>(
        &self,
        chart: &mut Chart<B>,
        series: &Series,
        height: Range<f64>,
    ) -> Result<()> {
        let highest = series.points.iter().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max);
        let place = |y: f64| height.start + (height.end - height.start) * 0.66 * y / highest;
        let points = series.points.iter().map(|&(x, y)| (self.x_scale.to_axis(x), place(y)));
        let curve: Vec<(f64, f64)> = points.filter(is_finite).collect();
        let fill = AreaSeries::new(curve, height.start, GREY.mix(0.18)).border_style(GREY.mix(0.4));
        chart.draw_series(fill).map_err(failed)?;
        Ok(())
    }

    fn draw_bars<B: DrawingBackend>(&self, chart: &mut Chart<B>, series: &Series) -> Result<()> {
        let fill = bars_colour().filled();
        let half = series.half_bar();
        let bar =
            |&(x, y): &(f64, f64)| Rectangle::new([self.at((x - half, 0.0)), self.at((x + half, y))], fill);
        chart.draw_series(series.points.iter().map(bar)).map_err(failed)?;
        Ok(())
    }

    fn draw_whiskers<B: DrawingBackend>(
        &self,
        chart: &mut Chart<B>,
        series: &Series,
        colour: RGBColor,
        bottom: f64,
    ) -> Result<()> {
        let stroke = colour.stroke_width(2);
        for (x, low, high) in series.whiskers() {
            // Below zero a logarithmic axis ends.
            let (low, high) = (self.at((x, low)), self.at((x, high)));
            let low = (low.0, if low.1.is_finite() { low.1 } else { bottom });
            if !is_finite(&high) {
                continue;
            }
            chart.draw_series([PathElement::new([low, high], stroke)]).map_err(failed)?;
            let ends =
                [low, high].map(|end| EmptyElement::at(end) + PathElement::new([(-5, 0), (5, 0)], stroke));
            chart.draw_series(ends).map_err(failed)?;
        }
        Ok(())
    }

    /// A line; its points are marked where there are few.
    fn draw_line<B: DrawingBackend>(
        &self,
        chart: &mut Chart<B>,
        series: &Series,
        colour: RGBColor,
    ) -> Result<()> {
        let line: Vec<(f64, f64)> = series.points.iter().map(|&p| self.at(p)).filter(is_finite).collect();
        if line.len() <= 40 {
            let dots = line.iter().map(|&p| Circle::new(p, 4, colour.filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).map_err(failed)?;
        Ok(())
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| series.role == role)
    }

    /// Axes that hold every line, whisker and bar; a legend of few names stands in the air above them.
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
        let air = if (2..=FEW).contains(&entries) { 0.05 + 0.1 * entries as f64 } else { 0.05 };
        let x = Axis::around(xs.into_iter(), self.x_scale, (0.02, 0.02))?;
        Ok((x, Axis::around(ys.into_iter(), self.y_scale, (0.04, air))?))
    }
}

impl Shown for LineChart {
    type Drawing = Self;

    fn title(&self) -> &str {
        &self.title
    }

    /// An error where nothing finite is to be drawn, where there are more than 100 series, and where a number is beyond 1e±150 or
    /// a bar is not finite.
    fn shown(&self) -> Result<Self> {
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
        let mut chart = Self { title: shown_title(&self.title, SIZE.0)?, ..self.clone() };
        for (series, name) in chart.series.iter_mut().zip(shown_names(&self.names())?) {
            series.name = name;
        }
        Ok(chart)
    }
}

impl Drawing for LineChart {
    /// Larger than usual by a legend beside the chart.
    fn size(&self) -> Result<(u32, u32)> {
        let (width, height) = legend::beside(&self.legend())?;
        Ok((SIZE.0 + width, SIZE.1.max(height + ABOVE_AND_BELOW)))
    }

    fn paint<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()> {
        let (x, y) = self.axes()?;
        let (bottom, top) = (y.range.start, y.range.end);
        let (x_ticks, y_ticks) = (x.ticks().len(), y.ticks().len());
        let x_ends = [x.range.start, x.range.end];
        let y_width = widest(y.ticks().iter().map(|tick| y.label(*tick)))?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FAMILY, TITLE))
            .margin(MARGIN)
            .margin_right(MARGIN_RIGHT + legend::beside(&self.legend())?.0)
            .x_label_area_size(52)
            .y_label_area_size(y_width + 44)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
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
            .map_err(failed)?;
        if self.y_scale == Scale::SymLog {
            let zero = LineSeries::new(x_ends.map(|x| (x, 0.0)), GREY.stroke_width(2));
            chart.draw_series(zero).map_err(failed)?;
        }
        let plot = chart.plotting_area().get_pixel_range();
        self.of(Role::Shade).try_for_each(|series| self.draw_shade(&mut chart, series, bottom..top))?;
        self.of(Role::Bars).try_for_each(|series| self.draw_bars(&mut chart, series))?;
        for (i, series) in self.of(Role::Line).enumerate() {
            let colour = line_colour(i);
            self.draw_whiskers(&mut chart, series, colour, bottom)?;
            self.draw_line(&mut chart, series, colour)?;
        }
        legend::draw(area, plot, &self.legend())
    }
}

fn line_colour(i: usize) -> RGBColor {
    COLOURS[i % COLOURS.len()]
}

fn bars_colour() -> RGBAColor {
    COLOURS[5].mix(0.5)
}

fn is_finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}
