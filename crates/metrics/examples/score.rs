//! FID and KID between two files of features.

use anyhow::Result;
use clap::Parser;
use elucidate_metrics::{Features, fid, kid_subsets};
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints FID and KID between two sets of features. Each file is a safetensors file with a tensor `features` (n, d).
///
/// KID is the average over random subsets, as in torch-fidelity.
#[derive(Parser)]
struct Options {
    /// Features of the real images.
    #[arg(long)]
    real: PathBuf,
    /// Features of the samples.
    #[arg(long)]
    fake: PathBuf,
    /// How many subsets KID averages over.
    #[arg(long, default_value_t = 100)]
    subsets: usize,
    /// Samples in a subset; where a file has fewer, all of them.
    #[arg(long, default_value_t = 1000)]
    subset_size: usize,
    /// Seed of the subsets.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    match score(&Options::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn score(options: &Options) -> Result<String> {
    let (real, fake) = (Features::read(&options.real)?, Features::read(&options.fake)?);
    let subset_size = options.subset_size.min(real.samples()).min(fake.samples());
    let fid = fid(&real, &fake)?;
    let kid = kid_subsets(&real, &fake, options.subsets, subset_size, options.seed)?;
    Ok(format!("fid={fid} kid={}", kid.mean))
}
