//! Values with their errors beside names, one name below the other.

use super::{Axis, COLOURS, GREY, GRID, MARGIN, MARGIN_RIGHT, SIZE, Scale, TEXT, TITLE, draw_legend};
use crate::canvas::{Area, FAMILY, draw, drawing, text_width};
use anyhow::{Result, ensure};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// A chart that is being drawn: its y axis counts rows.
type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<Axis, RangedCoordf64>>;

/// Beside the names there are at least so many pixels.
const NARROWEST: u32 = 640;

/// A value of a [`DotChart`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dot {
    /// Where it stands.
    pub value: f64,
    /// Half the length of its whisker, where it has one.
    pub error: Option<f64>,
    /// Behind the value, in brackets: its network evaluations, say. May be empty.
    pub note: String,
}

/// What a [`DotChart`] shows in one colour.
#[derive(Debug, Clone, PartialEq)]
pub struct DotSet {
    /// Its name in the legend.
    pub name: String,
    /// One for each of the chart's rows, or nothing there.
    pub dots: Vec<Option<Dot>>,
}

/// Dots with whiskers, from top to bottom; one set of them has its values written beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct DotChart {
    /// Above the chart.
    pub title: String,
    /// Below it, with units.
    pub value_label: String,
    /// The names at the left, from top to bottom.
    pub rows: Vec<String>,
    /// What stands beside them.
    pub sets: Vec<DotSet>,
    /// A line across all rows: its name and value.
    pub reference: Option<(String, f64)>,
}

impl Dot {
    /// What stands behind it: value, error and note.
    fn text(&self) -> String {
        let error = self.error.map_or_else(String::new, |error| format!(" ± {error:.2}"));
        let note = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        format!("{:.2}{error}{note}", self.value)
    }

    fn ends(&self) -> [f64; 2] {
        let error = self.error.unwrap_or(0.0);
        [self.value - error, self.value + error]
    }
}

/// Where a text stands from its point.
fn anchored(colour: &RGBColor, across: HPos) -> TextStyle<'_> {
    (FAMILY, TEXT).into_font().color(colour).pos(Pos::new(across, VPos::Center))
}

impl DotChart {
    /// Draws it to `path` as PNG.
    ///
    /// # Errors
    /// When there are no dots or a number is not finite, or when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        ensure!(self.dots().next().is_some(), "a chart of no dots");
        for (row, dot) in self.dots() {
            let finite = dot.value.is_finite() && dot.error.is_none_or(f64::is_finite);
            ensure!(finite, "{} is {}: not a finite number", self.rows[row], dot.text());
        }
        let row = 22 + 16 * self.sets.len() as u32;
        let legend = if self.sets.len() > 1 { 26 * self.sets.len() as u32 + 20 } else { 0 };
        let height = (150 + legend).saturating_add(row.saturating_mul(self.rows.len() as u32));
        let widths = self.rows.iter().map(|row| text_width(row, TEXT)).collect::<Result<Vec<_>>>()?;
        let labels = widths.into_iter().max().unwrap_or(0) + 16;
        let width = SIZE.0.max(labels + NARROWEST);
        // In rows, as the chart's y axis counts.
        let air = f64::from(legend) / f64::from(row);
        draw(path, (width, height), |area| self.paint(area, labels, air))
    }

    /// Every dot with its row.
    fn dots(&self) -> impl Iterator<Item = (usize, &Dot)> {
        let of_set = |set: &'_ DotSet| set.dots.len().min(self.rows.len());
        self.sets.iter().flat_map(move |set| {
            set.dots[..of_set(set)].iter().enumerate().filter_map(|(row, dot)| Some((row, dot.as_ref()?)))
        })
    }

    /// An axis that holds every whisker, zero, the reference and, of a single set, the texts behind its dots.
    fn axis(&self, width: f64) -> Result<Axis> {
        let mut ends = vec![0.0];
        ends.extend(self.reference.iter().map(|reference| reference.1));
        for (_, dot) in self.dots() {
            ends.extend(dot.ends());
            if self.sets.len() == 1 {
                let text = f64::from(text_width(&dot.text(), TEXT)? + 24);
                ends.push(dot.ends()[1] / (1.0 - text / width).max(0.2));
            }
        }
        Axis::around(ends.into_iter(), Scale::Linear, (0.01, 0.01))
    }

    /// Draws it with `label_width` pixels for the names at the left and `air` rows above the first one.
    fn paint(&self, area: &Area, label_width: u32, air: f64) -> Result<()> {
        let width = area.dim_in_pixel().0;
        let x = self.axis(f64::from(width.saturating_sub(label_width + MARGIN + MARGIN_RIGHT)))?;
        let x_ticks = x.ticks().len();
        let (left, right) = (x.range.start, x.range.end);
        let rows = self.rows.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FAMILY, TITLE))
            .margin(MARGIN)
            .margin_right(MARGIN_RIGHT)
            .x_label_area_size(56)
            .y_label_area_size(label_width)
            .build_cartesian_2d(x, -0.8..rows + air)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_labels(x_ticks)
            .disable_y_mesh()
            .y_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GREY)
            .label_style((FAMILY, TEXT))
            .axis_desc_style((FAMILY, TEXT + 1))
            .x_desc(&self.value_label)
            .draw()
            .map_err(drawing)?;
        for (row, name) in self.rows.iter().enumerate() {
            let line = [(left, self.place(row)), (right, self.place(row))];
            chart.draw_series(LineSeries::new(line, GRID.stroke_width(1))).map_err(drawing)?;
            let (x, y) = chart.backend_coord(&line[0]);
            area.draw(&Text::new(name.clone(), (x - 10, y), anchored(&BLACK, HPos::Right)))
                .map_err(drawing)?;
        }
        self.draw_reference(&mut chart)?;
        for i in 0..self.sets.len() {
            self.draw_set(&mut chart, i)?;
        }
        if self.sets.len() > 1 {
            draw_legend(&mut chart, SeriesLabelPosition::UpperRight)?;
        }
        Ok(())
    }

    /// The height of a row's middle.
    fn place(&self, row: usize) -> f64 {
        self.rows.len() as f64 - 0.5 - row as f64
    }

    fn draw_reference(&self, chart: &mut Chart) -> Result<()> {
        let Some((name, value)) = &self.reference else {
            return Ok(());
        };
        let rows = self.rows.len() as f64;
        let line = LineSeries::new([(*value, -0.8), (*value, rows)], COLOURS[1].stroke_width(2));
        chart.draw_series(line).map_err(drawing)?;
        let text = Text::new(format!("{name} {value:.2}"), (8, 0), anchored(&COLOURS[1], HPos::Left));
        chart.draw_series([EmptyElement::at((*value, -0.4)) + text]).map_err(drawing)?;
        Ok(())
    }

    /// The dots of the `i`-th set, a little above or below the middles of their rows where there are several sets.
    fn draw_set(&self, chart: &mut Chart, i: usize) -> Result<()> {
        let (set, sets) = (&self.sets[i], self.sets.len() as f64);
        // The reference line has the second colour.
        let mut colours = COLOURS.iter().enumerate().filter(|c| c.0 != 1).map(|c| *c.1).cycle();
        let colour = colours.nth(i).unwrap_or(BLACK);
        let shift = (i as f64 - (sets - 1.0) / 2.0) * 0.7 / sets;
        let dots = set.dots.iter().enumerate().filter_map(|(row, dot)| Some((row, dot.as_ref()?)));
        let mut circles = vec![];
        for (row, dot) in dots {
            let y = self.place(row) - shift;
            let [low, high] = dot.ends().map(|x| (x, y));
            if dot.error.is_some() {
                let stroke = colour.stroke_width(2);
                chart.draw_series(LineSeries::new([low, high], stroke)).map_err(drawing)?;
                let end = |end| EmptyElement::at(end) + PathElement::new([(0, -5), (0, 5)], stroke);
                chart.draw_series([low, high].map(end)).map_err(drawing)?;
            }
            circles.push(Circle::new((dot.value, y), 5, colour.filled()));
            if self.sets.len() == 1 {
                let text = Text::new(dot.text(), (12, 0), anchored(&BLACK, HPos::Left));
                chart.draw_series([EmptyElement::at(high) + text]).map_err(drawing)?;
            }
        }
        let drawn = chart.draw_series(circles).map_err(drawing)?;
        drawn.label(&set.name).legend(move |(x, y)| Circle::new((x + 11, y), 5, colour.filled()));
        Ok(())
    }
}
