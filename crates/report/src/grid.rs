//! Grey images side by side.

use crate::canvas::{Area, FAMILY, draw, drawing, text_width};
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
}

const ZOOM: usize = 2;
const GAP: usize = 4;
const TITLE: usize = 17;
const LABEL: u32 = 17;

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
    let columns = rows.iter().map(|row| row.pictures.len()).max().unwrap_or(0);
    let mut margin = GAP;
    for row in rows.iter().filter(|row| !row.label.is_empty()) {
        margin = margin.max(text_width(row.label, LABEL)? as usize + 3 * GAP);
    }
    let tops: Vec<usize> = rows
        .iter()
        .scan(GAP, |y, row| {
            let top = *y + if row.titles.is_empty() { 0 } else { TITLE };
            *y = top + height + GAP;
            Some(top)
        })
        .collect();
    let size = (margin + columns * (width + GAP), tops.last().map_or(0, |top| top + height + GAP));
    draw(path, (size.0 as u32, size.1 as u32), |area| {
        for (row, &top) in rows.iter().zip(&tops) {
            text(area, row.label, LABEL, (GAP, top + height / 2), Place::Left)?;
            for (i, picture) in row.pictures.iter().enumerate() {
                let left = margin + i * (width + GAP);
                for (k, &grey) in picture.pixels.iter().enumerate() {
                    let (x, y) = (left + k % picture.width * ZOOM, top + k / picture.width * ZOOM);
                    let corners = [(x as i32, y as i32), ((x + ZOOM) as i32, (y + ZOOM) as i32)];
                    area.draw(&Rectangle::new(corners, RGBColor(grey, grey, grey).filled()))
                        .map_err(drawing)?;
                }
                if let Some(title) = row.titles.get(i) {
                    text(area, title, 13, (left + width / 2, top - TITLE / 2), Place::Centre)?;
                }
            }
        }
        Ok(())
    })
}

enum Place {
    Left,
    Centre,
}

/// Writes text about the height `at.1`, from `at.0` on or around it.
fn text(area: &Area, text: &str, size: u32, at: (usize, usize), place: Place) -> Result<()> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let across = match place {
        Place::Left => HPos::Left,
        Place::Centre => HPos::Center,
    };
    let style = (FAMILY, size).into_font().color(&BLACK).pos(Pos::new(across, VPos::Center));
    area.draw(&Text::new(text.to_string(), (at.0 as i32, at.1 as i32), style)).map_err(drawing)
}
