//! Charts: plain data in, a PNG or an SVG out.

mod dots;
mod legend;
mod line;
mod table;

pub use dots::{Dot, DotChart, DotSet};
pub use line::{LineChart, Role, Series};
pub use table::{HeatMap, ShareTable};

use crate::canvas::{Drawing, draw, svg, text_width};
use crate::names::{ROOM, shown, shown_alone};
use anyhow::{Result, ensure};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

/// A chart: its data, checked and drawn at the same time.
pub trait Chart {
    /// What stands above it.
    fn title(&self) -> &str;

    /// It as an SVG document.
    ///
    /// # Errors
    /// When nothing finite is to be drawn, when there is too much of it, or when a number cannot be drawn.
    fn svg(&self) -> Result<String>;

    /// Draws it to `path`, as PNG or SVG by its extension.
    ///
    /// # Errors
    /// Those of [`Chart::svg`], and when the file cannot be written.
    fn save(&self, path: &Path) -> Result<()>;

    /// Draws it to `png`, and as SVG beside it.
    ///
    /// # Errors
    /// Those of [`Chart::save`].
    fn save_both(&self, png: &Path) -> Result<()> {
        self.save(png)?;
        self.save(&png.with_extension("svg"))
    }
}

/// What is drawn of a chart.
trait Shown {
    type Drawing: Drawing;

    fn title(&self) -> &str;

    /// It with its names as they are drawn; an error where it cannot be drawn.
    fn shown(&self) -> Result<Self::Drawing>;
}

impl<T: Shown> Chart for T {
    fn title(&self) -> &str {
        Shown::title(self)
    }

    fn svg(&self) -> Result<String> {
        Ok(String::from_utf8(svg(&self.shown()?)?)?)
    }

    fn save(&self, path: &Path) -> Result<()> {
        draw(path, &self.shown()?)
    }
}

/// Colours that colour-blind people tell apart too (Okabe & Ito 2008), and two of Paul Tol's for charts of more than eight lines.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(240, 228, 66),
    RGBColor(136, 34, 85),
    RGBColor(153, 153, 51),
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
    /// By factors to both sides of 0, evenly from −1 to 1.
    SymLog,
}

impl Scale {
    fn to_axis(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::SymLog if value.abs() <= 1.0 => value,
            Self::SymLog => value.signum() * (1.0 + value.abs().log10()),
        }
    }

    /// The value at a place on the axis.
    fn value(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::Log => 10f64.powf(place),
            Self::SymLog if place.abs() <= 1.0 => place,
            Self::SymLog => place.signum() * 10f64.powf(place.abs() - 1.0),
        }
    }

    /// The farthest place from 0 on the axis, that of 1e±150 on a logarithmic one: ranges beyond it may be no numbers, or too
    /// small to be divided.
    fn farthest(self) -> f64 {
        match self {
            Self::Linear => 1e150,
            Self::Log => 150.0,
            Self::SymLog => 151.0,
        }
    }
}

/// The names of series as they are drawn.
fn shown_names(names: &[&str]) -> Result<Vec<String>> {
    shown(names, TEXT, ROOM)
}

/// A title as it is drawn above a chart of `width` pixels.
fn shown_title(title: &str, width: u32) -> Result<String> {
    shown_alone(title, TITLE, width - 2 * MARGIN)
}

/// The widest of `names`.
fn widest(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<u32> {
    names.into_iter().try_fold(0, |widest, name| Ok(widest.max(text_width(name.as_ref(), TEXT)?)))
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

/// Places of round numbers on a logarithmic axis, the closer the shorter it is.
fn decades(from: f64, to: f64) -> Vec<f64> {
    let steps: &[f64] = match to - from {
        span if span < 1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        span if span < 2.5 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let apart = ((to - from) / 10.0).ceil().max(1.0) as i32;
    let decades = (from.floor() as i32..=to.ceil() as i32).filter(|d| d % apart == 0);
    decades.flat_map(|d| steps.iter().map(move |s| f64::from(d) + s.log10())).collect()
}

/// Places of 0 and of round numbers to both sides of it, from ±1 on, the closer the shorter the axis is.
fn symmetric_decades(from: f64, to: f64) -> Vec<f64> {
    let steps: &[f64] = match to - from {
        span if span < 4.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let farthest = from.abs().max(to.abs()).ceil() as i32;
    let beyond = (0..farthest).flat_map(|d| steps.iter().map(move |s| 1.0 + f64::from(d) + s.log10()));
    let all: Vec<f64> = beyond.collect();
    all.iter().rev().map(|tick| -tick).chain([0.0]).chain(all.iter().copied()).collect()
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
        let round = match self.scale {
            Scale::Linear => return even_ticks(from, to, self.whole),
            Scale::Log => decades(from, to),
            Scale::SymLog => symmetric_decades(from, to),
        };
        let ticks: Vec<f64> = round.into_iter().filter(|tick| (from..=to).contains(tick)).collect();
        if ticks.len() > 1 {
            return ticks;
        }
        // The range lies between two of them.
        let values = even_ticks(self.scale.value(from), self.scale.value(to), false);
        values.into_iter().map(|value| self.scale.to_axis(value)).collect()
    }

    fn label(&self, tick: f64) -> String {
        let value = self.scale.value(tick);
        match value.abs() {
            0.0 => "0".to_string(),
            size if size >= 1e7 => format!("{value:e}"),
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
