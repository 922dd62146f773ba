//! A picture to draw on, in a font that comes with the program.

use crate::files::write_atomically;
use ab_glyph::{Font, FontRef};
use anyhow::{Result, anyhow, bail, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;
use std::sync::{LazyLock, Once};

const FONT: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
static REGISTERED: Once = Once::new();
static GLYPHS: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(FONT).ok());

/// The font's name in plotters, and in an SVG what a browser looks for: Verdana is as wide.
pub(crate) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// The most pixels of a picture: 192 MiB of them.
const MOST_PIXELS: u64 = 1 << 26;

pub(crate) type Area<B> = DrawingArea<B, Shift>;

/// What is drawn by one code as pixels and as SVG.
pub(crate) trait Drawing {
    /// Width and height in pixels.
    fn size(&self) -> Result<(u32, u32)>;

    /// Draws it on a white area of this size.
    fn paint<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()>;
}

/// Draws a picture to `path`, as its extension says: `.png` or `.svg`.
///
/// # Errors
/// When the extension is another one, when the picture is too large or cannot be drawn, or when the file cannot be written.
pub(crate) fn draw(path: &Path, drawing: &impl Drawing) -> Result<()> {
    let file = match path.extension().and_then(|extension| extension.to_str()) {
        Some("png") => png(drawing)?,
        Some("svg") => svg(drawing)?,
        _ => bail!("{} is no picture's name: pictures are drawn as .png or .svg", path.display()),
    };
    write_atomically(path, &file)
}

fn png(drawing: &impl Drawing) -> Result<Vec<u8>> {
    let (width, height) = bounded_size(drawing)?;
    let mut pixels = vec![0; 3 * width as usize * height as usize];
    paint(BitMapBackend::with_buffer(&mut pixels, (width, height)), drawing)?;
    let mut file = Vec::new();
    let mut png = png::Encoder::new(&mut file, width, height);
    png.set_color(png::ColorType::Rgb);
    png.set_compression(png::Compression::Fast);
    png.set_filter(png::Filter::Adaptive);
    let mut png = png.write_header()?;
    png.write_image_data(&pixels)?;
    png.finish()?;
    Ok(file)
}

pub(crate) fn svg(drawing: &impl Drawing) -> Result<Vec<u8>> {
    let mut text = String::new();
    paint(SVGBackend::with_string(&mut text, bounded_size(drawing)?), drawing)?;
    Ok(text.into_bytes())
}

fn bounded_size(drawing: &impl Drawing) -> Result<(u32, u32)> {
    let (width, height) = drawing.size()?;
    let fits = u64::from(width) * u64::from(height) <= MOST_PIXELS;
    ensure!(fits, "a picture of {width} × {height} pixels is too large");
    Ok((width, height))
}

fn paint<B: DrawingBackend>(backend: B, drawing: &impl Drawing) -> Result<()> {
    register_font();
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    drawing.paint(&area)?;
    area.present().map_err(failed)
}

fn register_font() {
    REGISTERED.call_once(|| {
        // A font that cannot be read would show at the first text that is drawn.
        let _ = plotters::style::register_font(FAMILY, FontStyle::Normal, FONT);
    });
}

/// An error of plotters as one of ours.
pub(crate) fn failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("drawing failed: {error}")
}

/// How wide `text` is at `size` pixels.
pub(crate) fn text_width(text: &str, size: u32) -> Result<u32> {
    register_font();
    Ok((FAMILY, size).into_font().box_size(text).map_err(failed)?.0)
}

/// Whether the font can show `character`.
pub(crate) fn has_glyph(character: char) -> bool {
    GLYPHS.as_ref().is_some_and(|font| font.glyph_id(character).0 != 0)
}
