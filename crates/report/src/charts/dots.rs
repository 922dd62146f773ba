//! Values with their errors beside names, one name below the other.

use super::legend::{self, Entry, FEW, Mark};
use super::{
    Axis, COLOURS, GREY, GRID, MARGIN, MARGIN_RIGHT, SIZE, Scale, Shown, TEXT, TITLE, shown_names,
    shown_title, widest,
};
use crate::canvas::{Area, Drawing, FAMILY, failed, text_width};
use anyhow::{Result, ensure};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A chart that is being drawn: its y axis counts rows.
type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<Axis, RangedCoordf64>>;

/// Beside the names there are at least so many pixels.
const NARROWEST: u32 = 640;

/// What stands above and below the axis.
const ABOVE_AND_BELOW: u32 = 130;

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

/// Every one but the second, which the reference line has.
fn set_colour(i: usize) -> RGBColor {
    let mut colours = COLOURS.iter().enumerate().filter(|c| c.0 != 1).map(|c| *c.1).cycle();
    colours.nth(i).unwrap_or(BLACK)
}

/// What stands beside the reference.
fn reference_text((name, value): &(String, f64)) -> String {
    format!("{name} {value:.2}")
}

/// Where a text stands from its point.
fn anchored(colour: &RGBColor, across: HPos) -> TextStyle<'_> {
    (FAMILY, TEXT).into_font().color(colour).pos(Pos::new(across, VPos::Center))
}

impl DotChart {
    /// Those of the sets.
    fn names(&self) -> Vec<&str> {
        self.sets.iter().map(|set| set.name.as_str()).collect()
    }

    fn legend(&self) -> Vec<Entry<'_>> {
        self.sets.iter().enumerate().map(|(i, set)| (Mark::Dot(set_colour(i)), set.name.as_str())).collect()
    }

    /// In pixels, for the names at the left.
    fn label_width(&self) -> Result<u32> {
        Ok(widest(&self.rows)? + 16)
    }

    /// In pixels, without a legend beside it.
    fn chart_width(&self) -> Result<u32> {
        Ok(SIZE.0.max(self.label_width()? + NARROWEST))
    }

    /// The height of a row in pixels.
    fn row_height(&self) -> u32 {
        22 + 16 * self.sets.len() as u32
    }

    /// The height in pixels of the air above the first row, where a legend of few names stands.
    fn air(&self) -> u32 {
        match self.sets.len() {
            sets @ 2..=FEW => 26 * sets as u32 + 20,
            _ => 0,
        }
    }

    /// Every dot with its row.
    fn dots(&self) -> impl Iterator<Item = (usize, &Dot)> {
        let of_set = |set: &'_ DotSet| set.dots.len().min(self.rows.len());
        self.sets.iter().flat_map(move |set| {
            set.dots[..of_set(set)].iter().enumerate().filter_map(|(row, dot)| Some((row, dot.as_ref()?)))
        })
    }

    /// An axis of `width` pixels that holds every whisker, zero, the reference and the texts behind them.
    fn axis(&self, width: f64) -> Result<Axis> {
        let mut ends = vec![0.0];
        let mut texts = vec![];
        if let Some(reference) = &self.reference {
            texts.push((reference.1, reference_text(reference)));
        }
        for (_, dot) in self.dots() {
            ends.extend(dot.ends());
            if self.sets.len() == 1 {
                texts.push((dot.ends()[1], dot.text()));
            }
        }
        ends.extend(texts.iter().map(|text| text.0));
        let lowest = ends.iter().copied().fold(f64::INFINITY, f64::min);
        for (from, text) in texts {
            let part = f64::from(text_width(&text, TEXT)? + 24) / width;
            ends.push(lowest + (from - lowest) / (1.0 - part).max(0.2));
        }
        Axis::around(ends.into_iter(), Scale::Linear, (0.01, 0.01))
    }

    /// The height of a row's middle.
    fn place(&self, row: usize) -> f64 {
        self.rows.len() as f64 - 0.5 - row as f64
    }

    fn draw_reference<B: DrawingBackend>(&self, chart: &mut Chart<B>) -> Result<()> {
        let Some(reference) = &self.reference else {
            return Ok(());
        };
        let value = reference.1;
        let rows = self.rows.len() as f64;
        let line = LineSeries::new([(value, -0.8), (value, rows)], COLOURS[1].stroke_width(2));
        chart.draw_series(line).map_err(failed)?;
        let text = Text::new(reference_text(reference), (8, 0), anchored(&COLOURS[1], HPos::Left));
        chart.draw_series([EmptyElement::at((value, -0.4)) + text]).map_err(failed)?;
        Ok(())
    }

    /// The dots of the `i`-th set, a little above or below the middles of their rows where there are several sets.
    fn draw_set<B: DrawingBackend>(&self, chart: &mut Chart<B>, i: usize) -> Result<()> {
        let (set, sets) = (&self.sets[i], self.sets.len() as f64);
        let colour = set_colour(i);
        let shift = (i as f64 - (sets - 1.0) / 2.0) * 0.7 / sets;
        let dots = set.dots.iter().enumerate().filter_map(|(row, dot)| Some((row, dot.as_ref()?)));
        let mut circles = vec![];
        for (row, dot) in dots {
            let y = self.place(row) - shift;
            let [low, high] = dot.ends().map(|x| (x, y));
            if dot.error.is_some() {
                let stroke = colour.stroke_width(2);
                chart.draw_series(LineSeries::new([low, high], stroke)).map_err(failed)?;
                let end = |end| EmptyElement::at(end) + PathElement::new([(0, -5), (0, 5)], stroke);
                chart.draw_series([low, high].map(end)).map_err(failed)?;
            }
            circles.push(Circle::new((dot.value, y), 5, colour.filled()));
            if self.sets.len() == 1 {
                let text = Text::new(dot.text(), (12, 0), anchored(&BLACK, HPos::Left));
                chart.draw_series([EmptyElement::at(high) + text]).map_err(failed)?;
            }
        }
        chart.draw_series(circles).map_err(failed)?;
        Ok(())
    }
}

impl Shown for DotChart {
    type Drawing = Self;

    fn title(&self) -> &str {
        &self.title
    }

    /// An error where there are no dots or a number is not finite.
    fn shown(&self) -> Result<Self> {
        ensure!(self.dots().next().is_some(), "a chart of no dots");
        for (row, dot) in self.dots() {
            let finite = dot.value.is_finite() && dot.error.is_none_or(f64::is_finite);
            ensure!(finite, "{} is {}: not a finite number", self.rows[row], dot.text());
        }
        let rows: Vec<&str> = self.rows.iter().map(String::as_str).collect();
        let mut chart = Self { rows: shown_names(&rows)?, ..self.clone() };
        for (set, name) in chart.sets.iter_mut().zip(shown_names(&self.names())?) {
            set.name = name;
        }
        chart.title = shown_title(&self.title, chart.chart_width()?)?;
        Ok(chart)
    }
}

impl Drawing for DotChart {
    fn size(&self) -> Result<(u32, u32)> {
        let (width, height) = legend::beside(&self.legend())?;
        let rows = self.row_height().saturating_mul(self.rows.len() as u32);
        Ok((
            self.chart_width()? + width,
            (150 + self.air()).saturating_add(rows).max(height + ABOVE_AND_BELOW),
        ))
    }

    fn paint<B: DrawingBackend>(&self, area: &Area<B>) -> Result<()> {
        let label_width = self.label_width()?;
        let x = self.axis(f64::from(self.chart_width()? - label_width - MARGIN - MARGIN_RIGHT))?;
        let x_ticks = x.ticks().len();
        let (left, right) = (x.range.start, x.range.end);
        let rows = self.rows.len() as f64;
        // In rows, as the y axis counts.
        let air = f64::from(self.air()) / f64::from(self.row_height());
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FAMILY, TITLE))
            .margin(MARGIN)
            .margin_right(MARGIN_RIGHT + legend::beside(&self.legend())?.0)
            .x_label_area_size(56)
            .y_label_area_size(label_width)
            .build_cartesian_2d(x, -0.8..rows + air)
            .map_err(failed)?;
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
            .map_err(failed)?;
        for (row, name) in self.rows.iter().enumerate() {
            let line = [(left, self.place(row)), (right, self.place(row))];
            chart.draw_series(LineSeries::new(line, GRID.stroke_width(1))).map_err(failed)?;
            let (x, y) = chart.backend_coord(&line[0]);
            area.draw(&Text::new(name.clone(), (x - 10, y), anchored(&BLACK, HPos::Right)))
                .map_err(failed)?;
        }
        let plot = chart.plotting_area().get_pixel_range();
        self.draw_reference(&mut chart)?;
        for i in 0..self.sets.len() {
            self.draw_set(&mut chart, i)?;
        }
        legend::draw(area, plot, &self.legend())
    }
}
