//! The bootstrap's errors and FID∞ on Gaussian samples, whose true spread and true FID are known.

use elucidate_core::rng::Streams;
use elucidate_metrics::{Features, FidByN, MetricError, Moments, Reference, Resampled};
use rand_distr::{Distribution, StandardNormal};

/// Real features with mean 0 and covariance 1, exactly: the points ±√((2d − 1)/2) on each axis.
fn real(dim: usize) -> Features {
    let length = ((2 * dim - 1) as f64 / 2.0).sqrt();
    let mut values = vec![0.0; 2 * dim * dim];
    for axis in 0..dim {
        values[2 * axis * dim + axis] = length;
        values[(2 * axis + 1) * dim + axis] = -length;
    }
    Features::new(&values, dim).unwrap()
}

fn standard(dim: usize) -> Reference {
    Reference::new(Moments::of(&real(dim))).unwrap()
}

fn resampled(fake: &Features, resamples: usize, seed: u64) -> Resampled {
    Resampled::new(&standard(fake.dim()), &real(fake.dim()), fake, resamples, seed).unwrap()
}

/// The same samples from a slightly wider distribution with another mean.
fn moved(samples: &Features) -> Features {
    let rows = samples.rows();
    let values: Vec<f64> = (0..samples.samples())
        .flat_map(|i| (0..samples.dim()).map(move |j| 1.1 * rows[(i, j)] + 0.05))
        .collect();
    Features::new(&values, samples.dim()).unwrap()
}

fn std(values: &[f64]) -> f64 {
    mean_and_std(values).1
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

/// A figure of samples.
type Figure = fn(&Features) -> f64;
/// Where resamples have it.
type OfResamples = fn(&Resampled) -> &Vec<f64>;

fn fid(fake: &Features) -> f64 {
    standard(fake.dim()).fid(&Moments::of(fake)).unwrap()
}

/// By its definition, less the real images' own part.
fn kid(fake: &Features) -> f64 {
    let (n, d, real) = (fake.samples(), fake.dim(), real(fake.dim()));
    let rows = |features: &Features| -> Vec<Vec<f64>> {
        features.rows().row_iter().map(|row| row.iter().copied().collect()).collect()
    };
    let kernel = |x: &[f64], y: &[f64]| {
        let product: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
        (product / d as f64 + 1.0).powi(3)
    };
    let (fakes, reals) = (rows(fake), rows(&real));
    let mut within = 0.0;
    for i in 0..n {
        within += (0..i).map(|j| kernel(&fakes[i], &fakes[j])).sum::<f64>();
    }
    let between: f64 = fakes.iter().flat_map(|x| reals.iter().map(|y| kernel(x, y))).sum();
    within / (n * (n - 1) / 2) as f64 - 2.0 * between / (n * reals.len()) as f64
}

#[test]
fn the_bootstraps_errors_are_the_spreads_over_independent_sets() {
    let (n, dim) = (320, 8);
    let figures: [(&str, Figure, OfResamples); 2] = [("FID", fid, |r| &r.fid), ("KID", kid, |r| &r.kid)];
    for (name, figure, resamples) in figures {
        let (mut alone, mut differences) = (vec![], vec![]);
        for k in 0..400 {
            let fake = samples(k, n, dim);
            alone.push(figure(&fake));
            differences.push(figure(&moved(&fake)) - figure(&fake));
        }
        let (mut error, mut paired) = (0.0, 0.0);
        for k in 0..20 {
            let fake = samples(k, n, dim);
            let (a, b) = (resampled(&fake, 100, 0), resampled(&moved(&fake), 100, 0));
            error += std(resamples(&a)) / 20.0;
            let pairs = resamples(&a).iter().zip(resamples(&b));
            paired += std(&pairs.map(|(a, b)| b - a).collect::<Vec<_>>()) / 20.0;
        }
        // The spread is known to 3.5 % (one standard error), the mean of the bootstrap's errors to 2 %.
        let (spread, of_differences) = (std(&alone), std(&differences));
        println!("{name}: {error:.4} for {spread:.4}, paired {paired:.4} for {of_differences:.4}");
        assert!((error / spread - 1.0).abs() < 0.12, "{name}: {error} is not {spread}");
        assert!((paired / of_differences - 1.0).abs() < 0.12, "{name}: {paired} is not {of_differences}");
        // Pairs are worth it: by themselves the two errors would add in squares.
        assert!(paired < 0.6 * error.hypot(error), "{name}: {paired} and {error}");
    }
}

#[test]
fn resamples_of_samples_without_spread_do_not_spread() {
    let fake = Features::new(&[0.5; 40 * 3], 3).unwrap();
    let Resampled { fid, kid } = resampled(&fake, 20, 0);
    assert!(std(&fid) < 1e-9 && std(&kid) < 1e-9);
    // All pairs are alike, so leaving out those of copies leaves the mean of the kernel: (3·¼/3 + 1)³.
    let within = 1.25f64.powi(3);
    let between: f64 =
        real(3).rows().row_iter().map(|x| (x.iter().sum::<f64>() * 0.5 / 3.0 + 1.0).powi(3)).sum::<f64>()
            / 6.0;
    assert!(
        (kid[0] - (within - 2.0 * between)).abs() < 1e-12,
        "{} is not {}",
        kid[0],
        within - 2.0 * between
    );
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
    let error = |seed| resampled(&fake, 9, seed);
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
    assert_eq!(Resampled::new(&reference, &real(3), &other, 9, 0).unwrap_err(), differ);
    assert_eq!(FidByN::new(&reference, &other, 0).unwrap_err(), differ);
    let few = samples(0, 5, 3);
    let complaint = Resampled::new(&reference, &real(3), &few, 1, 0).unwrap_err();
    assert_eq!(complaint, MetricError::Resamples { resamples: 1 });
    let complaint = FidByN::new(&reference, &few, 0).unwrap_err();
    assert_eq!(complaint, MetricError::TooFew { found: 5, needed: 6 });
}
