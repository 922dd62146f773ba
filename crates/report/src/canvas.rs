//! A picture to draw on, in a font that comes with the program.

use crate::files::write_atomically;
use anyhow::{Result, anyhow, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;
use std::sync::Once;

static FONT: Once = Once::new();

/// The font's family name in plotters.
pub(crate) const FAMILY: &str = "sans-serif";

/// The most pixels of a picture: 192 MiB of them.
const MOST_PIXELS: u64 = 1 << 26;

pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Draws a white picture of `size` pixels and writes it to `path` as PNG.
pub(crate) fn draw(path: &Path, size: (u32, u32), paint: impl FnOnce(&Area) -> Result<()>) -> Result<()> {
    let (width, height) = size;
    let fits = u64::from(width) * u64::from(height) <= MOST_PIXELS;
    ensure!(fits, "a picture of {width} × {height} pixels is too large");
    register_font();
    let mut pixels = vec![255; 3 * width as usize * height as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        paint(&area)?;
        area.present().map_err(drawing)?;
    }
    let mut file = Vec::new();
    let mut png = png::Encoder::new(&mut file, width, height);
    png.set_color(png::ColorType::Rgb);
    png.set_compression(png::Compression::Fast);
    png.set_filter(png::Filter::Adaptive);
    let mut png = png.write_header()?;
    png.write_image_data(&pixels)?;
    png.finish()?;
    write_atomically(path, &file)
}

fn register_font() {
    FONT.call_once(|| {
        let font = include_bytes!("../assets/DejaVuSans-subset.ttf");
        // A font that cannot be read would show at the first text that is drawn.
        let _ = plotters::style::register_font(FAMILY, FontStyle::Normal, font);
    });
}

/// An error of plotters as one of ours.
pub(crate) fn drawing<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("drawing failed: {error}")
}

/// How wide `text` is at `size` pixels.
pub(crate) fn text_width(text: &str, size: u32) -> Result<u32> {
    register_font();
    Ok((FAMILY, size).into_font().box_size(text).map_err(drawing)?.0)
}
