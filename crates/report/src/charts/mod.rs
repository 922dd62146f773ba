//! Charts: plain data in, a PNG out.

mod dots;
mod line;
mod table;

pub use dots::{Dot, DotChart, DotSet};
pub use line::{LineChart, Role, Series};
pub use table::ShareTable;

use crate::canvas::{FAMILY, drawing};
use anyhow::{Result, ensure};
use plotters::coord::CoordTranslate;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::ops::Range;

/// Colours that colour-blind people tell apart too (Okabe & Ito 2008).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(240, 228, 66),
];
const GREY: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(225, 225, 225);
const SIZE: (u32, u32) = (960, 560);
const TITLE: u32 = 24;
const TEXT: u32 = 18;
const MARGIN: u32 = 16;
/// Wider, for half of the last number on the axis.
const MARGIN_RIGHT: u32 = 28;

/// The smallest span of an axis, as a part of where it lies.
const NARROWEST: f64 = 1e-12;
/// What lies outside of an axis is drawn at most so many of its lengths away.
const OUTSIDE: f64 = 2.0;

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

    /// The farthest place from 0 on the axis, 1e±150 on a logarithmic one: ranges beyond it may be no numbers, or too
    /// small to be divided.
    fn farthest(self) -> f64 {
        match self {
            Self::Linear => 1e150,
            Self::Log => 150.0,
        }
    }
}

/// Draws the legend of what was drawn with a label.
fn draw_legend<'a, 'b: 'a, T: CoordTranslate>(
    chart: &mut ChartContext<'a, BitMapBackend<'b>, T>,
    position: SeriesLabelPosition,
) -> Result<()> {
    chart
        .configure_series_labels()
        .position(position)
        .legend_area_size(30)
        .margin(12)
        .label_font((FAMILY, TEXT))
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()
        .map_err(drawing)
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
                ensure!(place.abs() <= scale.farthest(), "{value:e} is too large or too small to be drawn");
                range = range.start.min(place)..range.end.max(place);
                whole &= value.fract() == 0.0;
            }
        }
        ensure!(range.start <= range.end, "a chart of no finite values");
        let mut span = range.end - range.start;
        // Between numbers that are so close f64 has too few others for ticks.
        if span <= (NARROWEST * range.start.abs()).max(f64::MIN_POSITIVE / NARROWEST) {
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
        match value.abs() {
            0.0 => "0".to_string(),
            size if size >= 1e10 => format!("{value:e}"),
            size if size >= 1e5 => format!("{}k", value / 1e3),
            size if size < 1e-4 => format!("{value:.0e}"),
            _ => format!("{value:.5}").trim_end_matches('0').trim_end_matches('.').to_string(),
        }
    }
}

impl Ranged for Axis {
    type ValueType = f64;
    type FormatOption = NoDefaultFormatting;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        let part = part.clamp(-OUTSIDE, 1.0 + OUTSIDE);
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
