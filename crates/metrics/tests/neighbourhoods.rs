//! Density and coverage against what `prdc` gets for the committed fixtures, and against distances taken one by one.

use elucidate_core::rng::Streams;
use elucidate_metrics::{DensityCoverage, Features, MetricError, NEAREST, Neighbourhoods};
use rand_distr::{Distribution, StandardNormal};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fid_kid").join(file)
}

/// `n` normal vectors of 20 numbers, shifted.
fn normal(name: &str, n: usize, shift: f64) -> Features {
    let mut stream = Streams::new(1).stream(name, 0);
    let mut draw = || -> f64 { StandardNormal.sample(&mut stream) };
    let values: Vec<f64> = (0..n * 20).map(|_| shift + draw()).collect();
    Features::new(&values, 20).unwrap()
}

fn density_and_coverage(real: &Features, fake: &Features, k: usize) -> DensityCoverage {
    Neighbourhoods::new(real, k).unwrap().density_and_coverage(fake).unwrap()
}

/// From the distance between each pair, as the definitions have it.
fn by_definition(real: &Features, fake: &Features, k: usize) -> DensityCoverage {
    let distances = |i: usize, others: &Features| -> Vec<f64> {
        let image = real.rows().row(i);
        (0..others.samples()).map(|j| (image - others.rows().row(j)).norm_l2()).collect()
    };
    let inside = |i: usize| {
        let mut among_real = distances(i, real);
        among_real.sort_by(f64::total_cmp);
        distances(i, fake).iter().filter(|&&distance| distance < among_real[k]).count()
    };
    let inside: Vec<usize> = (0..real.samples()).map(inside).collect();
    DensityCoverage {
        density: inside.iter().sum::<usize>() as f64 / (k * fake.samples()) as f64,
        coverage: inside.iter().filter(|&&samples| samples > 0).count() as f64 / real.samples() as f64,
    }
}

#[test]
fn density_and_coverage_are_those_of_prdc() {
    let bytes = std::fs::read(fixture("prdc.json")).unwrap();
    let cases: HashMap<String, HashMap<String, f64>> = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(cases.len(), 4);
    for (case, expected) in cases {
        let read = |file| Features::read(&fixture(&case).join(file)).unwrap();
        let (real, fake) = (read("real.safetensors"), read("fake.safetensors"));
        let found = density_and_coverage(&real.first(fake.samples()).unwrap(), &fake, NEAREST);
        for (name, found) in [("density", found.density), ("coverage", found.coverage)] {
            assert!(
                (found - expected[name]).abs() < 1e-12,
                "{case}: {name} {found} is not {}",
                expected[name]
            );
        }
    }
}

#[test]
fn blocks_and_threads_change_nothing() {
    let (real, fake) = (normal("real", 300, 0.0), normal("fake", 210, 0.2));
    let found = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| density_and_coverage(&real, &fake, 3))
    };
    let expected = by_definition(&real, &fake, 3);
    assert!(expected.density > 0.2 && expected.coverage < 0.9, "{expected:?} tells little");
    assert_eq!(found(1), expected);
    assert_eq!(found(2), expected);
}

#[test]
fn a_set_is_as_dense_as_itself_and_covers_itself_and_a_far_one_does_neither() {
    let real = normal("real", 300, 0.0);
    let itself = density_and_coverage(&real, &real, NEAREST);
    assert_eq!(itself, DensityCoverage { density: 1.0, coverage: 1.0 });
    let far = density_and_coverage(&real, &normal("fake", 300, 9.0), NEAREST);
    assert_eq!(far, DensityCoverage { density: 0.0, coverage: 0.0 });
}

#[test]
fn impossible_neighbourhoods_are_refused() {
    let five = normal("real", 5, 0.0);
    assert_eq!(Neighbourhoods::new(&five, 0).unwrap_err(), MetricError::NoNeighbours);
    let too_few = MetricError::TooFew { found: 5, needed: 6 };
    assert_eq!(Neighbourhoods::new(&five, 5).unwrap_err(), too_few);
    assert_eq!(five.first(6).unwrap_err(), too_few);
    assert_eq!(five.first(1).unwrap_err(), MetricError::TooFew { found: 1, needed: 2 });
    let other = Features::new(&[0.5; 9], 3).unwrap();
    let differ = MetricError::DimsDiffer { real: 20, fake: 3 };
    assert_eq!(Neighbourhoods::new(&five, 4).unwrap().density_and_coverage(&other).unwrap_err(), differ);
}

#[test]
fn the_first_samples_are_those() {
    let all = normal("real", 5, 0.0);
    assert_eq!(all.first(2).unwrap().rows(), all.rows().subrows(0, 2));
    assert_eq!(all.first(5).unwrap(), all);
}
