//! FID and KID against what NumPy gets for the committed fixtures, and the `score` example on good and bad files.

use assert_cmd::Command;
use candle_core::{Device, Tensor};
use elucidate_metrics::{
    DensityCoverage, Features, FidByN, MetricError, Moments, NEAREST, Neighbourhoods, RESAMPLES, Reference,
    Resampled, fid, kid_chunks, kid_subsets,
};
use predicates::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const CASES: [&str; 4] = ["more_samples", "fewer_samples", "both_fewer", "constant_feature"];

fn fixture(case: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fid_kid").join(case).join(file)
}

fn pair(case: &str) -> (Features, Features) {
    let read = |file| Features::read(&fixture(case, file)).unwrap();
    (read("real.safetensors"), read("fake.safetensors"))
}

fn expected(case: &str) -> HashMap<String, f64> {
    serde_json::from_slice(&std::fs::read(fixture(case, "expected.json")).unwrap()).unwrap()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected} within {tolerance}");
}

#[test]
fn fid_is_that_of_the_eigenvalues_of_the_product() {
    for case in CASES {
        let (real, fake) = pair(case);
        let expected = expected(case)["fid"];
        assert_close(fid(&real, &fake).unwrap(), expected, 1e-6 * expected);
        assert_close(fid(&fake, &real).unwrap(), expected, 1e-6 * expected);
    }
}

#[test]
fn fid_of_equal_sets_is_zero_even_with_fewer_samples_than_dimensions() {
    for case in CASES {
        let (real, _) = pair(case);
        assert_close(fid(&real, &real).unwrap(), 0.0, 1e-7);
    }
}

#[test]
fn a_reference_serves_many_sets() {
    let (real, fake) = pair("more_samples");
    let reference = Reference::new(Moments::of(&real)).unwrap();
    assert_eq!(reference.fid(&Moments::of(&fake)), fid(&real, &fake));
    assert_eq!(reference.fid(&Moments::of(&real)), fid(&real, &real));
}

#[test]
fn kid_over_chunks_is_the_notebooks() {
    for case in CASES {
        let (real, fake) = pair(case);
        assert_close(kid_chunks(&real, &fake).unwrap(), expected(case)["kid_chunks"], 1e-11);
    }
}

#[test]
fn kid_over_subsets_tends_to_that_of_all_samples() {
    for case in CASES {
        let (real, fake) = pair(case);
        let kid = kid_subsets(&real, &fake, 400, 15, 3).unwrap();
        assert_close(kid.mean, expected(case)["kid"], 4.0 * kid.std_err);
        assert_eq!(kid, kid_subsets(&real, &fake, 400, 15, 3).unwrap());
        assert_ne!(kid, kid_subsets(&real, &fake, 400, 15, 4).unwrap());
    }
}

#[test]
fn subsets_of_all_samples_are_all_alike() {
    let (_, fake) = pair("more_samples");
    let rows = fake.rows();
    let shifted: Vec<f64> = (0..fake.samples()).flat_map(|i| rows.row(i).iter().map(|x| x + 0.1)).collect();
    let real = Features::new(&shifted, fake.dim()).unwrap();
    let whole = kid_subsets(&real, &fake, 3, fake.samples(), 0).unwrap();
    assert_close(whole.std_err, 0.0, 1e-12);
    assert!(whole.mean > 1e-3, "{whole:?}");
}

#[test]
fn impossible_sets_are_refused() {
    let features = |n: usize, d| Features::new(&vec![0.5; n * d], d);
    let (two, nine) = (features(2, 3).unwrap(), features(9, 3).unwrap());
    assert_eq!(features(1, 3).unwrap_err(), MetricError::TooFew { found: 1, needed: 2 });
    assert_eq!(features(2, 0).unwrap_err(), MetricError::NotRows { values: 0, dim: 0 });
    assert_eq!(Features::new(&[0.0; 7], 3).unwrap_err(), MetricError::NotRows { values: 7, dim: 3 });
    let infinite = Features::new(&[0.0, 0.0, 0.0, f64::INFINITY, 0.0, 0.0], 3).unwrap_err();
    assert_eq!(infinite, MetricError::NonFinite { row: 1, column: 0, value: f64::INFINITY });
    let differ = MetricError::DimsDiffer { real: 3, fake: 4 };
    let other = features(9, 4).unwrap();
    assert_eq!(fid(&nine, &other).unwrap_err(), differ);
    assert_eq!(kid_chunks(&nine, &other).unwrap_err(), differ);
    assert_eq!(kid_subsets(&nine, &other, 2, 2, 0).unwrap_err(), differ);
    assert_eq!(kid_chunks(&nine, &two).unwrap_err(), MetricError::TooFew { found: 2, needed: 8 });
    assert_eq!(kid_subsets(&nine, &two, 9, 3, 0).unwrap_err(), MetricError::TooFew { found: 2, needed: 3 });
    assert_eq!(kid_subsets(&nine, &nine, 1, 3, 0).unwrap_err(), MetricError::Subsets { subsets: 1, size: 3 });
    let huge = Features::new(&[1e200, -1e200, 3e199, 1e200], 2).unwrap();
    assert_eq!(fid(&huge, &huge).unwrap_err(), MetricError::Eigenvalues);
}

/// The example's binary, which `cargo test` builds beside the folder of this test's.
fn score(real: &Path, fake: &Path) -> assert_cmd::assert::Assert {
    let this = std::env::current_exe().unwrap();
    let example = this.ancestors().nth(2).unwrap().join("examples/score");
    // With RUST_BACKTRACE, candle's errors bring a backtrace along.
    let mut command = Command::new(example);
    command.env_remove("RUST_BACKTRACE").arg("--real").arg(real).arg("--fake").arg(fake).assert()
}

#[test]
fn the_example_prints_a_line_of_distances_and_what_goes_with_them() {
    let (real, fake) =
        (fixture("more_samples", "real.safetensors"), fixture("more_samples", "fake.safetensors"));
    let (a, b) = pair("more_samples");
    let kid = kid_subsets(&a, &b, 100, b.samples(), 0).unwrap().mean;
    let reference = Reference::new(Moments::of(&a)).unwrap();
    let resampled = Resampled::new(&reference, &a, &b, RESAMPLES, 0).unwrap();
    let infinity = FidByN::new(&reference, &b, 0).unwrap().infinity;
    let neighbourhoods = Neighbourhoods::new(&a.first(b.samples()).unwrap(), NEAREST).unwrap();
    let DensityCoverage { density, coverage } = neighbourhoods.density_and_coverage(&b).unwrap();
    let lines = [
        format!("fid={} kid={kid}\n", fid(&a, &b).unwrap()),
        format!("fid_std_err={} kid_std_err={}\n", resampled.fid_std_err(), resampled.kid_std_err()),
        format!("fid_infinity={infinity}\n"),
        format!("density={density} coverage={coverage}\n"),
    ];
    score(&real, &fake).success().stdout(lines.concat());
}

#[test]
fn the_example_refuses_bad_files_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = fixture("more_samples", "real.safetensors");
    let path = |name: &str| folder.path().join(name);
    let whole = std::fs::read(&good).unwrap();
    std::fs::write(path("truncated"), &whole[..whole.len() - 5]).unwrap();
    std::fs::write(path("empty"), b"").unwrap();
    let save = |file: &str, name: &str, values: &[f32], shape: &[usize]| {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap().save_safetensors(name, path(file)).unwrap();
    };
    save("unnamed", "samples", &[0.0; 48], &[2, 24]);
    save("rank", "features", &[0.0; 48], &[2, 2, 12]);
    save("nan", "features", &[f32::NAN; 48], &[2, 24]);
    save("few", "features", &[0.0; 24], &[1, 24]);
    save("dims", "features", &[0.0; 24], &[2, 12]);
    for (file, complaint) in [
        ("missing", "No such file"),
        ("", "not a regular file"),
        ("truncated", "damaged or no safetensors file"),
        ("empty", "damaged or no safetensors file"),
        ("unnamed", "features"),
        ("rank", "[2, 2, 12]"),
        ("nan", "NaN"),
        ("few", "1 samples are too few"),
        ("dims", "24 and of 12"),
    ] {
        let one_line = predicate::str::is_match("^error: [^\n]+\n$").unwrap();
        let assert = score(&good, &path(file)).failure().stdout("").stderr(one_line);
        assert.stderr(predicate::str::contains(complaint));
    }
}
