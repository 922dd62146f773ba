//! Whether samples are copies of training images: the nearest of these beside each, by pixels and by features.

use crate::evaluate::figures::quantile;
use crate::evaluate::pictures::{COLUMNS, pictures};
use crate::run::Run;
use anyhow::Result;
use candle_core::{DType, Tensor};
use elucidate_core::data::PixelRange;
use elucidate_report::{labelled_rows, write_csv};
use rayon::prelude::*;
use serde::Serialize;

/// Samples, and as many test images, whose nearest training image is looked for.
const COMPARED: usize = 96;

/// Training images at a time.
const CHUNK: usize = 2000;

/// A row of nearest.csv: the training image nearest to a sample or to a test image.
#[derive(Debug, Clone, Serialize)]
struct Row {
    of: &'static str,
    index: usize,
    by: &'static str,
    training_image: usize,
    distance: f64,
}

/// Writes nearest.png, the first samples above the training images that are nearest to them by pixels and by the classifier's features,
/// titled with the distance, and nearest.csv, all of 96 samples and as many test images. `draw` makes as many samples as it is asked for,
/// (n, 1, 32, 32) in \[−1, 1\]. The figures are the medians: samples that were copies would be nearer than test images are. Distances are
/// root mean squares over pixels, and Euclidean over features.
///
/// # Errors
/// When samples cannot be drawn, the features cannot be computed, or a file cannot be written.
pub fn nearest_training_images(
    run: &mut Run,
    draw: impl FnOnce(&Run, usize) -> Result<Tensor>,
) -> Result<()> {
    run.phase("nearest training images", |run| {
        let samples = draw(run, COMPARED.min(run.settings.scoring.samples))?;
        compare(run, &samples)
    })
}

fn compare(run: &mut Run, samples: &Tensor) -> Result<()> {
    let n = samples.dim(0)?.min(run.settings.scoring.test_images);
    let indices: Vec<usize> = (0..n).collect();
    let test = run.data.test.batch(&indices, PixelRange::SIGNED, &run.device)?;
    let asked = Tensor::cat(&[&samples.narrow(0, 0, n)?, &test], 0)?;
    let by_pixels = nearest(run, &asked, |images| Ok(images.flatten_from(1)?))?;
    let by_features = nearest(run, &asked, |images| {
        let features = run.classifier.features(images)?;
        let rows: Vec<f32> = (0..features.samples())
            .flat_map(|i| features.rows().row(i).iter().map(|&v| v as f32).collect::<Vec<_>>())
            .collect();
        Ok(Tensor::from_vec(rows, (features.samples(), features.dim()), images.device())?)
    })?;
    let side = (asked.elem_count() / asked.dim(0)?) as f64;
    let of = |i: usize| if i < n { ("sample", i) } else { ("test image", i - n) };
    let mut rows = vec![];
    for (by, found, scale) in [("pixels", &by_pixels, side.sqrt()), ("features", &by_features, 1.0)] {
        for (i, &(training_image, distance)) in found.iter().enumerate() {
            let (of, index) = of(i);
            rows.push(Row { of, index, by, training_image, distance: distance / scale });
        }
    }
    write_csv(&run.folder.path("nearest.csv"), &rows)?;
    for of in ["sample", "test image"] {
        for by in ["pixels", "features"] {
            let distances: Vec<f64> =
                rows.iter().filter(|row| row.of == of && row.by == by).map(|row| row.distance).collect();
            run.figure(
                &format!("median distance of a {of} to the nearest training image, by {by}"),
                quantile(&distances, 0.5),
            );
        }
    }
    picture(run, samples, &rows)
}

fn picture(run: &Run, samples: &Tensor, rows: &[Row]) -> Result<()> {
    let columns = COLUMNS.min(samples.dim(0)?);
    let of_samples = |by: &'static str| -> Vec<&Row> {
        rows.iter().filter(|row| row.of == "sample" && row.by == by).take(columns).collect()
    };
    let training = |by| -> Result<_> {
        let indices: Vec<usize> = of_samples(by).iter().map(|row| row.training_image).collect();
        Ok(pictures(&run.data.train.batch(&indices, PixelRange::SIGNED, &run.device)?, columns, (-1.0, 1.0))?)
    };
    let titles: Vec<String> = of_samples("pixels").iter().map(|row| format!("{:.2}", row.distance)).collect();
    let drawn = [
        ("sample", pictures(samples, columns, (-1.0, 1.0))?),
        ("by pixels", training("pixels")?),
        ("by features", training("features")?),
    ];
    labelled_rows(&run.folder.path("nearest.png"), &drawn, &titles)
}

/// Of each of the images `asked`, the nearest training image and its Euclidean distance in what `vectors` makes of images.
fn nearest(
    run: &Run,
    asked: &Tensor,
    vectors: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Vec<(usize, f64)>> {
    let of = |images: &Tensor| -> Result<Vec<Vec<f32>>> {
        Ok(vectors(images)?.to_dtype(DType::F32)?.to_vec2::<f32>()?)
    };
    let asked = of(asked)?;
    let mut best = vec![(0, f32::INFINITY); asked.len()];
    for first in (0..run.settings.training.train_images).step_by(CHUNK) {
        let indices: Vec<usize> = (first..(first + CHUNK).min(run.settings.training.train_images)).collect();
        let chunk = of(&run.data.train.batch(&indices, PixelRange::SIGNED, &run.device)?)?;
        keep_nearer(&mut best, &asked, first, &chunk);
    }
    Ok(best.into_iter().map(|(index, square)| (index, f64::from(square).sqrt())).collect())
}

/// Replaces the number and squared distance of each of `asked`'s nearest where one of `chunk`, numbered from `first`, is nearer.
fn keep_nearer(best: &mut [(usize, f32)], asked: &[Vec<f32>], first: usize, chunk: &[Vec<f32>]) {
    best.par_iter_mut().zip(asked).for_each(|(best, asked)| {
        for (i, vector) in chunk.iter().enumerate() {
            let square: f32 = asked.iter().zip(vector).map(|(a, b)| (a - b) * (a - b)).sum();
            if square < best.1 {
                *best = (first + i, square);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_over_all_chunks_is_kept() {
        let asked = vec![vec![1.0, 0.0], vec![5.0, 5.0]];
        let mut best = vec![(0, f32::INFINITY); 2];
        keep_nearer(&mut best, &asked, 0, &[vec![0.0, 0.0], vec![9.0, 9.0]]);
        assert_eq!(best, [(0, 1.0), (1, 32.0)]);
        keep_nearer(&mut best, &asked, 2, &[vec![1.0, 0.0], vec![5.0, 6.0], vec![0.0, 1.0]]);
        assert_eq!(best, [(2, 0.0), (3, 1.0)]);
    }
}
