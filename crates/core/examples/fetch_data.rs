//! Fetches Fashion-MNIST from the Hugging Face hub.

use anyhow::{Context, Result};
use clap::Parser;
use elucidate_core::data::FashionMnist;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Fetches Fashion-MNIST from the Hugging Face hub into a folder that is not there yet: whole, or not at all.
#[derive(Parser)]
struct Options {
    /// Where the four IDX files go
    dir: PathBuf,
}

fn main() -> ExitCode {
    match fetch(&Options::parse().dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(dir: &Path) -> Result<()> {
    let data = FashionMnist::load_hub()?;
    let part = dir.with_extension("part");
    fs::create_dir_all(&part)
        .and_then(|()| data.write_idx(&part))
        .and_then(|()| fs::rename(&part, dir))
        .with_context(|| format!("cannot write {}", dir.display()))
}
