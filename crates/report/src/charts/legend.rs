//! Legends: of few names in the chart, of many beside it.

use super::{MARGIN, TEXT, widest};
use crate::canvas::{Area, FAMILY, failed};
use anyhow::Result;
use plotters::prelude::*;
use std::ops::Range;

/// More names than this have their legend beside the chart: above the curves it would leave no room for them.
pub(super) const FEW: usize = 7;

/// From one name to the next.
const LINE: f64 = 1.25 * TEXT as f64;
/// Half of what a name is high.
const HALF_NAME: i32 = 7;
/// What a mark and the gap behind it are wide.
const MARK: i32 = 30;
const AIR: i32 = 12;
/// From a corner of the chart.
const INSET: i32 = 5;

/// What stands before a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Line(RGBColor),
    Dot(RGBColor),
    Patch(RGBAColor),
}

/// A series' mark and name.
pub(super) type Entry<'a> = (Mark, &'a str);

impl Mark {
    fn draw<B: DrawingBackend>(self, area: &Area<B>, (x, y): (i32, i32)) -> Result<()> {
        match self {
            Self::Line(colour) => area.draw(&PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3))),
            Self::Dot(colour) => area.draw(&Circle::new((x + 11, y), 5, colour.filled())),
            Self::Patch(fill) => area.draw(&Rectangle::new([(x, y - 6), (x + 22, y + 6)], fill.filled())),
        }
        .map_err(failed)
    }
}

/// What a picture with this legend is larger than its chart alone would be, and how high the legend is: nothing where it stands
/// in the chart.
pub(super) fn beside(entries: &[Entry]) -> Result<(u32, u32)> {
    if entries.len() <= FEW {
        return Ok((0, 0));
    }
    let (width, height) = size(entries)?;
    Ok((width as u32 + MARGIN, height as u32))
}

/// How far the `i`-th name is below the first.
fn below(i: usize) -> i32 {
    (LINE * i as f64).round() as i32
}

fn size(entries: &[Entry]) -> Result<(i32, i32)> {
    let names = widest(entries.iter().map(|entry| entry.1))? as i32;
    Ok((names + MARK + 2 * AIR, below(entries.len().saturating_sub(1)) + 2 * (HALF_NAME + AIR)))
}

/// Draws it in the upper right corner of the chart, whose axes span `plot`, or beside it; nothing of a single name.
pub(super) fn draw<B: DrawingBackend>(
    area: &Area<B>,
    plot: (Range<i32>, Range<i32>),
    entries: &[Entry],
) -> Result<()> {
    let (width, height) = size(entries)?;
    let (left, top) = match entries.len() {
        0 | 1 => return Ok(()),
        2..=FEW => (plot.0.end - width - INSET, plot.1.start + INSET),
        _ => (plot.0.end + MARGIN as i32, plot.1.start),
    };
    let corners = [(left, top), (left + width, top + height)];
    area.draw(&Rectangle::new(corners, WHITE.mix(0.85).filled())).map_err(failed)?;
    area.draw(&Rectangle::new(corners, RGBColor(200, 200, 200))).map_err(failed)?;
    for (i, (mark, name)) in entries.iter().enumerate() {
        let (x, y) = (left + AIR, top + AIR + below(i));
        area.draw(&Text::new(*name, (x + MARK, y), (FAMILY, TEXT))).map_err(failed)?;
        mark.draw(area, (x, y + HALF_NAME))?;
    }
    Ok(())
}
