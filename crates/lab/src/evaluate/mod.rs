//! Evaluation: settings, drawing samples, scoring them, the table.

pub mod draw;
pub mod figures;
pub mod model_card;
pub mod nearest;
pub mod one_setting;
pub mod pictures;
pub(crate) mod preview;
pub mod score;
mod yardsticks;
