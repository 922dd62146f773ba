//! Grey images side by side.

use crate::canvas::{Area, Drawing, FAMILY, draw, failed, text_width};
use crate::names::{ROOM, shown, shown_alone};
use anyhow::{Result, ensure};
use plotters::prelude::*;
use std::path::Path;

/// A grey image.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Its width; its height follows from the pixels.
    pub width: usize,
    /// Grey values by rows.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// From values in \[`lo`, `hi`\], black to white; what is beyond is cut off, what is not a number is black.
    pub fn from_range(values: &[f32], width: usize, lo: f32, hi: f32) -> Self {
        let grey = |&v: &f32| ((v - lo) / (hi - lo) * 255.0).round().clamp(0.0, 255.0) as u8;
        Self { width, pixels: values.iter().map(grey).collect() }
    }

    fn height(&self) -> usize {
        self.pixels.len() / self.width.max(1)
    }

    fn paint<B: DrawingBackend>(&self, area: &Area<B>, (left, top): (usize, usize)) -> Result<()> {
        for (k, &grey) in self.pixels.iter().enumerate() {
            let (x, y) = (left + k % self.width * ZOOM, top + k / self.width * ZOOM);
            let corners = [(x as i32, y as i32), ((x + ZOOM) as i32, (y + ZOOM) as i32)];
            area.draw(&Rectangle::new(corners, RGBColor(grey, grey, grey).filled())).map_err(failed)?;
        }
        Ok(())
    }
}

const ZOOM: usize = 2;
const GAP: usize = 4;
const TITLE: usize = 17;
const LABEL: u32 = 17;
const SMALL: u32 = 13;

/// `pictures` in rows of `columns`, each with its title above it where there are titles.
///
/// # Errors
/// When there are no pictures, when their sizes differ, when there is not a title for each, or when the file cannot be
/// written.
pub fn picture_grid(path: &Path, pictures: &[Picture], columns: usize, titles: &[String]) -> Result<()> {
    ensure!(!pictures.is_empty() && columns > 0, "a grid of no pictures");
    ensure!(
        titles.is_empty() || titles.len() == pictures.len(),
        "{} titles for {} pictures",
        titles.len(),
        pictures.len()
    );
    let rows: Vec<Row> = pictures
        .chunks(columns)
        .enumerate()
        .map(|(i, pictures)| Row {
            label: "",
            pictures,
            titles: titles.chunks(columns).nth(i).unwrap_or(&[]),
        })
        .collect();
    draw_rows(path, &rows)
}

/// Rows of pictures, each with its label at the left; titles above the first row where there are any.
///
/// # Errors
/// When there are no pictures, when their sizes differ, or when the file cannot be written.
pub fn labelled_rows(path: &Path, rows: &[(&str, Vec<Picture>)], titles: &[String]) -> Result<()> {
    let rows: Vec<Row> = rows
        .iter()
        .enumerate()
        .map(|(i, (label, pictures))| Row { label, pictures, titles: if i == 0 { titles } else { &[] } })
        .collect();
    draw_rows(path, &rows)
}

struct Row<'a> {
    label: &'a str,
    pictures: &'a [Picture],
    titles: &'a [String],
}

fn draw_rows(path: &Path, rows: &[Row]) -> Result<()> {
    let Some(first) = rows.iter().flat_map(|row| row.pictures).next() else {
        anyhow::bail!("a grid of no pictures");
    };
    let (width, height) = (first.width * ZOOM, first.height() * ZOOM);
    let same = rows
        .iter()
        .flat_map(|row| row.pictures)
        .all(|p| p.width == first.width && p.height() == first.height());
    ensure!(same, "the pictures of a grid must be of one size");
    draw(path, &Grid { cell: (width, height), labels: shown_labels(rows)?, rows })
}

/// The rows' labels as they are drawn; rows without one stay so.
fn shown_labels(rows: &[Row]) -> Result<Vec<String>> {
    let labels: Vec<&str> = rows.iter().map(|row| row.label).filter(|label| !label.is_empty()).collect();
    let mut shown = shown(&labels, LABEL, ROOM)?.into_iter();
    let of_row = |row: &Row| if row.label.is_empty() { None } else { shown.next() };
    Ok(rows.iter().map(of_row).map(Option::unwrap_or_default).collect())
}

struct Grid<'a> {
    rows: &'a [Row<'a>],
    labels: Vec<String>,
    /// Width and height of a picture as it is drawn.
    cell: (usize, usize),
}

impl Grid<'_> {
    /// The left end of the first column.
    fn left(&self) -> Result<usize> {
        let mut labels = self.labels.iter().filter(|label| !label.is_empty());
        labels.try_fold(GAP, |left, label| Ok(left.max(text_width(label, LABEL)? as usize + 3 * GAP)))
    }

    /// The upper ends of the rows' pictures.
    fn tops(&self) -> Vec<usize> {
        let next = |y: &mut usize, row: &Row| {
            let top = *y + if row.titles.is_empty() { 0 } else { TITLE };
            *y = top + self.cell.1 + GAP;
            Some(top)
        };
        self.rows.iter().scan(GAP, next).collect()
    }
}

impl Drawing for Grid<'_> {
    fn size(&self) -> Result<(u32, u32)> {
        let columns = self.rows.iter().map(|row| row.pictures.len()).max().unwrap_or(0);
        let width = self.left()? + columns * (self.cell.0 + GAP);
        Ok((width as u32, self.tops().last().map_or(0, |top| top + self.cell.1 + GAP) as u32))
    }

    fn paint<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()> {
        let (width, height) = self.cell;
        let first_left = self.left()?;
        for ((row, label), top) in self.rows.iter().zip(&self.labels).zip(self.tops()) {
            text(area, label, LABEL, (GAP, top + height / 2), Place::Left)?;
            for (i, picture) in row.pictures.iter().enumerate() {
                let left = first_left + i * (width + GAP);
                picture.paint(area, (left, top))?;
                if let Some(title) = row.titles.get(i) {
                    let title = shown_alone(title, SMALL, u32::MAX)?;
                    text(area, &title, SMALL, (left + width / 2, top - TITLE / 2), Place::Centre)?;
                }
            }
        }
        Ok(())
    }
}

enum Place {
    Left,
    Centre,
}

/// Writes text about the height `at.1`, from `at.0` on or around it.
fn text<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    size: u32,
    at: (usize, usize),
    place: Place,
) -> Result<()> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let across = match place {
        Place::Left => HPos::Left,
        Place::Centre => HPos::Center,
    };
    let style = (FAMILY, size).into_font().color(&BLACK).pos(Pos::new(across, VPos::Center));
    area.draw(&Text::new(text.to_string(), (at.0 as i32, at.1 as i32), style)).map_err(failed)
}
