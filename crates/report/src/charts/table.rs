//! Tables of coloured cells: shares, and a figure over two axes.

use super::{COLOURS, MARGIN, SIZE, Shown, TEXT, TITLE, shown_names, shown_title, widest};
use crate::canvas::{Area, Drawing, FAMILY, failed, text_width};
use crate::summary::Estimate;
use anyhow::{Result, ensure};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const ROW: u32 = 30;
/// The least width of a column.
const COLUMN: u32 = 86;
const SMALL: u32 = 14;

/// Shares of a whole by class, a row for each set; where a set has more or less of a class than the first row, its cell is
/// coloured, most at twice or half as much.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareTable {
    /// Above it.
    pub title: String,
    /// Names above the columns.
    pub columns: Vec<String>,
    /// Names of the rows and their shares, each from 0 to 1.
    pub rows: Vec<(String, Vec<f64>)>,
}

impl Shown for ShareTable {
    type Drawing = CellTable;

    fn title(&self) -> &str {
        &self.title
    }

    /// An error where there are no rows, and where a row has not a share for each column.
    fn shown(&self) -> Result<CellTable> {
        let usual = self.rows.first().map_or(&[][..], |(_, shares)| shares);
        let cell = |(share, usual): (&f64, &f64)| (format!("{:.1} %", 100.0 * share), shade(*share, *usual));
        let cells = self.rows.iter().map(|(name, shares)| {
            ensure!(
                shares.len() == self.columns.len(),
                "{name}: {} of {} shares",
                shares.len(),
                self.columns.len()
            );
            Ok((name.clone(), shares.iter().zip(usual).map(cell).collect()))
        });
        CellTable::new(&self.title, &self.columns, cells.collect::<Result<_>>()?)
    }
}

/// Orange for more than usual, blue for less.
fn shade(share: f64, usual: f64) -> RGBAColor {
    let doublings = (share.max(1e-9) / usual.max(1e-9)).log2().clamp(-1.0, 1.0);
    let colour = if doublings > 0.0 { COLOURS[1] } else { COLOURS[0] };
    colour.mix(0.75 * doublings.abs())
}

/// A figure over two axes; the smaller, the darker its cell, evenly in the order of the figures, whether small is good or bad.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Above it.
    pub title: String,
    /// Names above the columns.
    pub columns: Vec<String>,
    /// Names of the rows and their figures, nothing where one is not known.
    pub rows: Vec<(String, Vec<Option<Estimate>>)>,
}

impl Shown for HeatMap {
    type Drawing = CellTable;

    fn title(&self) -> &str {
        &self.title
    }

    /// An error where there are no rows, and where a row has not a cell for each column.
    fn shown(&self) -> Result<CellTable> {
        let mut means: Vec<f64> =
            self.rows.iter().flat_map(|(_, cells)| cells).flatten().map(|cell| cell.mean).collect();
        means.sort_by(f64::total_cmp);
        let digits = digits(&means);
        let cell = |cell: &Option<Estimate>| match cell {
            None => (String::new(), WHITE.mix(0.0)),
            Some(cell) => {
                let place = means.iter().filter(|mean| **mean < cell.mean).count();
                let from_best = place as f64 / means.len().max(2).saturating_sub(1) as f64;
                (format!("{cell:.digits$}"), COLOURS[0].mix(0.75 * (1.0 - from_best)))
            }
        };
        let cells = self.rows.iter().map(|(name, cells)| {
            ensure!(
                cells.len() == self.columns.len(),
                "{name}: {} of {} cells",
                cells.len(),
                self.columns.len()
            );
            Ok((name.clone(), cells.iter().map(cell).collect()))
        });
        CellTable::new(&self.title, &self.columns, cells.collect::<Result<_>>()?)
    }
}

/// Enough digits to tell the figures apart: a hundredth of what they span, at least one.
fn digits(sorted: &[f64]) -> usize {
    match sorted {
        [first, .., last] if last > first => (2.0 - (last - first).log10().floor()).clamp(1.0, 6.0) as usize,
        [only, ..] if *only != 0.0 => (2.0 - only.abs().log10().floor()).clamp(1.0, 6.0) as usize,
        _ => 1,
    }
}

/// Text on coloured cells, with names above the columns and beside the rows.
pub(super) struct CellTable {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<(String, RGBAColor)>)>,
    /// Of a column.
    width: u32,
}

impl CellTable {
    /// With its names as they are drawn.
    fn new(
        title: &str,
        columns: &[String],
        mut rows: Vec<(String, Vec<(String, RGBAColor)>)>,
    ) -> Result<Self> {
        ensure!(!rows.is_empty(), "a table of no rows");
        let names: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let names = shown_names(&names)?;
        rows.iter_mut().zip(names).for_each(|(row, name)| row.0 = name);
        let columns = shown_names(&columns.iter().map(String::as_str).collect::<Vec<_>>())?;
        let texts = rows.iter().flat_map(|row| row.1.iter().map(|cell| &cell.0));
        let width = (widest(texts.chain(&columns))? + MARGIN).max(COLUMN);
        let table = Self { title: title.to_string(), columns, rows, width };
        Ok(Self { title: shown_title(title, table.size()?.0)?, ..table })
    }

    /// The upper left corner of the cells.
    fn corner(&self) -> Result<(u32, u32)> {
        Ok((widest(self.rows.iter().map(|row| &row.0))? + 2 * MARGIN, TITLE + 3 * MARGIN + SMALL))
    }
}

impl Drawing for CellTable {
    fn size(&self) -> Result<(u32, u32)> {
        let (left, top) = self.corner()?;
        let (columns, rows) = (self.columns.len() as u32, self.rows.len() as u32);
        let title = text_width(&self.title, TITLE)?.min(SIZE.0) + 3 * MARGIN;
        Ok(((left + self.width * columns + MARGIN).max(title), top + ROW * rows + MARGIN))
    }

    fn paint<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()> {
        let (left, top) = self.corner()?;
        let (left, top) = (left as i32, top as i32);
        let text = |text: String, size: u32, at: (i32, i32), across: HPos| {
            let style = (FAMILY, size).into_font().color(&BLACK).pos(Pos::new(across, VPos::Center));
            area.draw(&Text::new(text, at, style)).map_err(failed)
        };
        let (width, height) = (self.width as i32, ROW as i32);
        let middle = area.dim_in_pixel().0 as i32 / 2;
        text(self.title.clone(), TITLE, (middle, MARGIN as i32 + TITLE as i32 / 2), HPos::Center)?;
        for (i, name) in self.columns.iter().enumerate() {
            let x = left + i as i32 * width + width / 2;
            text(name.clone(), SMALL, (x, top - MARGIN as i32), HPos::Center)?;
        }
        for (row, (name, cells)) in self.rows.iter().enumerate() {
            let y = top + row as i32 * height;
            text(name.clone(), TEXT, (left - MARGIN as i32, y + height / 2), HPos::Right)?;
            for (i, (content, colour)) in cells.iter().enumerate() {
                let x = left + i as i32 * width;
                let corners = [(x + 1, y + 1), (x + width - 1, y + height - 1)];
                area.draw(&Rectangle::new(corners, colour.filled())).map_err(failed)?;
                text(content.clone(), SMALL, (x + width / 2, y + height / 2), HPos::Center)?;
            }
        }
        Ok(())
    }
}
