//! FID's bootstrap error and FID∞ on Gaussian samples, whose true spread and true FID are known.

use elucidate_core::rng::Streams;
use elucidate_metrics::{Features, FidByN, MetricError, Moments, Reference, fid_std_err};
use rand_distr::{Distribution, StandardNormal};

/// A reference with mean 0 and covariance 1, exactly: of the points ±√((2d − 1)/2) on each axis.
fn standard(dim: usize) -> Reference {
    let length = ((2 * dim - 1) as f64 / 2.0).sqrt();
    let mut values = vec![0.0; 2 * dim * dim];
    for axis in 0..dim {
        values[2 * axis * dim + axis] = length;
        values[(2 * axis + 1) * dim + axis] = -length;
    }
    Reference::new(Moments::of(&Features::new(&values, dim).unwrap())).unwrap()
}

/// Set `k` of `n` samples of N(0.3, 1.5²) in every dimension.
fn samples(k: u64, n: usize, dim: usize) -> Features {
    let mut stream = Streams::new(1).stream("samples", k);
    let mut draw = || -> f64 { StandardNormal.sample(&mut stream) };
    let values: Vec<f64> = (0..n * dim).map(|_| 0.3 + 1.5 * draw()).collect();
    Features::new(&values, dim).unwrap()
}

/// FID between N(0.3, 1.5²) and N(0, 1) in every dimension.
fn true_fid(dim: usize) -> f64 {
    dim as f64 * (0.3f64.powi(2) + 0.5f64.powi(2))
}

fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len() - 1) as f64).sqrt())
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn the_bootstraps_error_is_the_spread_over_independent_sets() {
    let (n, dim) = (300, 8);
    let reference = standard(dim);
    let fids: Vec<f64> =
        (0..400).map(|k| reference.fid(&Moments::of(&samples(k, n, dim))).unwrap()).collect();
    let (_, spread) = mean_and_std(&fids);
    let errors: Vec<f64> =
        (0..20).map(|k| fid_std_err(&reference, &samples(k, n, dim), 100, 0).unwrap()).collect();
    let (error, _) = mean_and_std(&errors);
    // The spread is known to 3.5 % (one standard error), the mean of the bootstrap's errors to 2 %.
    assert!((error / spread - 1.0).abs() < 0.12, "{error} is not {spread}");
}

#[test]
fn extrapolation_takes_nearly_all_of_the_bias_away() {
    let (n, dim) = (600, 24);
    let (reference, truth) = (standard(dim), true_fid(dim));
    let (mut at_n, mut at_infinity) = (vec![], vec![]);
    for k in 0..40 {
        let fake = samples(k, n, dim);
        let by_n = FidByN::new(&reference, &fake, k).unwrap();
        let (largest, fid) = by_n.points[0];
        assert_eq!(largest, n);
        let whole = reference.fid(&Moments::of(&fake)).unwrap();
        assert!((fid - whole).abs() < 1e-9 * whole, "{fid} is not {whole}");
        at_n.push(fid);
        at_infinity.push(by_n.infinity);
    }
    let ((fid, _), (infinity, spread)) = (mean_and_std(&at_n), mean_and_std(&at_infinity));
    let (bias, rest) = (fid - truth, infinity - truth);
    assert!(bias > 5.0 * rest.abs(), "{fid} and {infinity}, the truth being {truth}");
    assert!(rest.abs() < 4.0 * spread / 40f64.sqrt(), "{infinity} ± {spread} is not {truth}");
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    let (reference, fake) = (standard(12), samples(0, 97, 12));
    let error = |seed| fid_std_err(&reference, &fake, 9, seed).unwrap();
    assert_eq!(on_threads(1, || error(3)), on_threads(2, || error(3)));
    assert_ne!(error(3), error(4));
    let by_n = |seed| FidByN::new(&reference, &fake, seed).unwrap();
    assert_eq!(on_threads(1, || by_n(3)), on_threads(2, || by_n(3)));
    assert_ne!(by_n(3), by_n(4));
}

#[test]
fn impossible_requests_are_refused() {
    let (reference, other) = (standard(3), samples(0, 9, 4));
    let differ = MetricError::DimsDiffer { real: 3, fake: 4 };
    assert_eq!(fid_std_err(&reference, &other, 9, 0).unwrap_err(), differ);
    assert_eq!(FidByN::new(&reference, &other, 0).unwrap_err(), differ);
    let few = samples(0, 5, 3);
    let complaint = fid_std_err(&reference, &few, 1, 0).unwrap_err();
    assert_eq!(complaint, MetricError::Resamples { resamples: 1 });
    let complaint = FidByN::new(&reference, &few, 0).unwrap_err();
    assert_eq!(complaint, MetricError::TooFew { found: 5, needed: 6 });
}
