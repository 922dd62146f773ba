//! Run records (CSV, JSON), charts and image grids: numbers and pixels, no models.

mod canvas;
mod charts;
mod files;
mod grid;
mod record;

pub use charts::{Bar, BarChart, LineChart, Scale, Series};
pub use files::{read_csv, read_json, write_atomically, write_csv, write_json};
pub use grid::{Picture, labelled_rows, picture_grid};
pub use record::{RunRecord, SampleRow, TrainRow, git_revision};
