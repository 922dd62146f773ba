//! FID, KID, density and coverage between two files of features.

use anyhow::Result;
use clap::Parser;
use elucidate_metrics::{
    DensityCoverage, Features, FidByN, Moments, NEAREST, Neighbourhoods, RESAMPLES, Reference, Resampled,
    kid_subsets,
};
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints FID and KID between two sets of features, then a line each with their standard errors, with FID extrapolated to
/// infinitely many samples, and with density and coverage. Each file is a safetensors file with a tensor `features` (n,
/// d), n at least 6.
///
/// KID is the average over random subsets, as in torch-fidelity. Density and coverage are of 5 nearest neighbours, as in
/// prdc, among as many real images as there are samples, the first.
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
    /// How many resamples the standard errors are taken over.
    #[arg(long, default_value_t = RESAMPLES)]
    resamples: usize,
    /// Seed of the subsets and resamples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    match score(&Options::parse()) {
        Ok(lines) => {
            println!("{lines}");
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
    let kid = kid_subsets(&real, &fake, options.subsets, subset_size, options.seed)?.mean;
    let reference = Reference::new(Moments::of(&real))?;
    let fid = reference.fid(&Moments::of(&fake))?;
    let resampled = Resampled::new(&reference, &real, &fake, options.resamples, options.seed)?;
    let (fid_std_err, kid_std_err) = (resampled.fid_std_err(), resampled.kid_std_err());
    let fid_infinity = FidByN::new(&reference, &fake, options.seed)?.infinity;
    let as_many = real.first(fake.samples().min(real.samples()))?;
    let DensityCoverage { density, coverage } =
        Neighbourhoods::new(&as_many, NEAREST)?.density_and_coverage(&fake)?;
    Ok(format!(
        "fid={fid} kid={kid}\nfid_std_err={fid_std_err} kid_std_err={kid_std_err}\nfid_infinity={fid_infinity}\n\
         density={density} coverage={coverage}"
    ))
}
