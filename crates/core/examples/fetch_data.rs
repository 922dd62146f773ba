//! Loads Fashion-MNIST from wherever it can be had, the Hugging Face hub at last; what the hub gives stays in its cache.

use elucidate_core::data::FashionMnist;
use std::process::ExitCode;

fn main() -> ExitCode {
    match FashionMnist::load(None) {
        Ok(data) => {
            println!(
                "{} training and {} test images from {}",
                data.train.len(),
                data.test.len(),
                data.source
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
