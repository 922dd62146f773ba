//! Run records (CSV, JSON), charts and image grids, comparison of runs: numbers and pixels, no models.

mod canvas;
mod charts;
mod compare;
mod components;
mod files;
mod grid;
mod lock;
mod names;
mod page;
mod plots;
mod record;
mod scored;
mod setting;
mod summary;
mod tensorboard;
pub mod terminal;

pub use charts::{Chart, Dot, DotChart, DotSet, HeatMap, LineChart, Role, Scale, Series, ShareTable};
pub use compare::{Difference, compare_runs, compare_settings, difference_chart, left_out};
pub use components::{Components, components};
pub use files::{
    check_text, create_dir, is_there, read_csv, read_file, read_json, unknown_columns, write_atomically,
    write_csv, write_json,
};
pub use grid::{Picture, labelled_rows, picture_grid};
pub use lock::{LOG, is_taken, lock};
pub use page::write_page;
pub use plots::{
    RunChart, curves_chart, draw_charts, draw_samples, fid_by_rho, fid_by_sampler, label_among, read_curves,
    run_charts, save_curves, save_training, write_curves,
};
pub use record::{OtherModel, Resamples, RunRecord, SCHEMA_VERSION, SampleRow, Session, TrainRow};
pub use scored::{ScoredRun, check_comparable, write_resamples};
pub use summary::{Basis, Estimate, Figure, Ratio, Summary};
pub use tensorboard::{EventFile, read_scalars};
