//! Shares in columns, shaded by how they differ from those of the first row.

use super::{COLOURS, MARGIN, TEXT, TITLE, shown_names, shown_title, widest};
use crate::canvas::{Area, Drawing, FAMILY, draw, failed};
use anyhow::{Result, ensure};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const CELL: (u32, u32) = (86, 30);
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

impl ShareTable {
    /// Draws it to `path`, as PNG or SVG by its extension.
    ///
    /// # Errors
    /// When there are no rows, when a row has not a share for each column, or when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        ensure!(!self.rows.is_empty(), "a table of no rows");
        for (name, shares) in &self.rows {
            ensure!(
                shares.len() == self.columns.len(),
                "{name}: {} of {} shares",
                shares.len(),
                self.columns.len()
            );
        }
        draw(path, &self.as_shown()?)
    }

    /// With its names as they are drawn.
    fn as_shown(&self) -> Result<Self> {
        let names: Vec<&str> = self.rows.iter().map(|row| row.0.as_str()).collect();
        let mut table = self.clone();
        for (row, name) in table.rows.iter_mut().zip(shown_names(&names)?) {
            row.0 = name;
        }
        table.title = shown_title(&self.title, table.size()?.0)?;
        Ok(table)
    }

    /// The upper left corner of the shares.
    fn corner(&self) -> Result<(u32, u32)> {
        Ok((widest(self.rows.iter().map(|row| &row.0))? + 2 * MARGIN, TITLE + 3 * MARGIN + SMALL))
    }
}

impl Drawing for ShareTable {
    fn size(&self) -> Result<(u32, u32)> {
        let (left, top) = self.corner()?;
        let (columns, rows) = (self.columns.len() as u32, self.rows.len() as u32);
        Ok((left + CELL.0 * columns + MARGIN, top + CELL.1 * rows + MARGIN))
    }

    fn paint<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()> {
        let (left, top) = self.corner()?;
        let (left, top) = (left as i32, top as i32);
        let text = |text: String, size: u32, at: (i32, i32), across: HPos| {
            let style = (FAMILY, size).into_font().color(&BLACK).pos(Pos::new(across, VPos::Center));
            area.draw(&Text::new(text, at, style)).map_err(failed)
        };
        let (width, height) = (CELL.0 as i32, CELL.1 as i32);
        let middle = area.dim_in_pixel().0 as i32 / 2;
        text(self.title.clone(), TITLE, (middle, MARGIN as i32 + TITLE as i32 / 2), HPos::Center)?;
        for (i, name) in self.columns.iter().enumerate() {
            let x = left + i as i32 * width + width / 2;
            text(name.clone(), SMALL, (x, top - MARGIN as i32), HPos::Center)?;
        }
        for (row, (name, shares)) in self.rows.iter().enumerate() {
            let y = top + row as i32 * height;
            text(name.clone(), TEXT, (left - MARGIN as i32, y + height / 2), HPos::Right)?;
            for (i, (share, usual)) in shares.iter().zip(&self.rows[0].1).enumerate() {
                let x = left + i as i32 * width;
                let corners = [(x + 1, y + 1), (x + width - 1, y + height - 1)];
                area.draw(&Rectangle::new(corners, shade(*share, *usual).filled())).map_err(failed)?;
                let middle = (x + width / 2, y + height / 2);
                text(format!("{:.1} %", 100.0 * share), SMALL, middle, HPos::Center)?;
            }
        }
        Ok(())
    }
}

/// Orange for more than usual, blue for less.
fn shade(share: f64, usual: f64) -> RGBAColor {
    let doublings = (share.max(1e-9) / usual.max(1e-9)).log2().clamp(-1.0, 1.0);
    let colour = if doublings > 0.0 { COLOURS[1] } else { COLOURS[0] };
    colour.mix(0.75 * doublings.abs())
}
