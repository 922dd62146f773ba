//! Named, seeded random streams: one seed a run, one stream for every use.
//!
//! A stream is named by what it is for and by an index (the image's number, the epoch …), so that a number drawn for
//! image k does not depend on the batch size, on the number of threads, or on what else was drawn before it.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// The generator behind every stream.
pub type Stream = ChaCha8Rng;

/// All random streams of a run, made from its one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of the run with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed that they are made from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream with this name and index, from its beginning: ChaCha8 keyed by the SHA-256 of seed, index and name.
    pub fn stream(&self, name: &str, index: u64) -> Stream {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(index.to_le_bytes());
        hash.update(name.as_bytes());
        Stream::from_seed(hash.finalize().into())
    }

    /// Standard normal noise for the images numbered `indices`: (n, `image_shape` …), f32. Image k's noise is the
    /// beginning of stream (`name`, k).
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn normal_images(
        &self,
        name: &str,
        indices: Range<u64>,
        image_shape: &[usize],
        device: &Device,
    ) -> Result<Tensor> {
        let numbered: Vec<u64> = indices.collect();
        self.normal_for(name, &numbered, image_shape, device)
    }

    /// As [`Streams::normal_images`], for any list of indices.
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn normal_for(
        &self,
        name: &str,
        indices: &[u64],
        image_shape: &[usize],
        device: &Device,
    ) -> Result<Tensor> {
        let size: usize = image_shape.iter().product();
        let mut values = vec![0f32; indices.len() * size];
        if size > 0 {
            values
                .par_chunks_mut(size)
                .zip(indices)
                .for_each(|(image, &k)| fill_normal(&mut self.stream(name, k), image));
        }
        let shape = [&[indices.len()], image_shape].concat();
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)
    }
}

/// Fills `values` with standard normal numbers.
pub fn fill_normal(stream: &mut Stream, values: &mut [f32]) {
    for value in values {
        *value = StandardNormal.sample(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn streams_differ_by_seed_name_and_index_and_repeat() {
        let first = |seed, name, index| -> u64 { Streams::new(seed).stream(name, index).random() };
        let draws = [first(0, "a", 0), first(1, "a", 0), first(0, "b", 0), first(0, "a", 1)];
        assert_eq!(draws, [first(0, "a", 0), first(1, "a", 0), first(0, "b", 0), first(0, "a", 1)]);
        for i in 0..4 {
            for j in 0..i {
                assert_ne!(draws[i], draws[j]);
            }
        }
    }

    #[test]
    fn an_images_noise_does_not_depend_on_its_batch() -> Result<()> {
        let streams = Streams::new(7);
        let whole = streams.normal_images("noise", 0..6, &[1, 4, 4], &Device::Cpu)?;
        let part = streams.normal_images("noise", 3..5, &[1, 4, 4], &Device::Cpu)?;
        assert_eq!(
            whole.narrow(0, 3, 2)?.flatten_all()?.to_vec1::<f32>()?,
            part.flatten_all()?.to_vec1::<f32>()?
        );
        Ok(())
    }

    #[test]
    fn the_noise_is_standard_normal() -> Result<()> {
        let n = 20_000;
        let noise = Streams::new(1).normal_images("noise", 0..n, &[4], &Device::Cpu)?;
        let values = noise.flatten_all()?.to_vec1::<f32>()?;
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 4.0 / count.sqrt(), "mean {mean}");
        assert!((var - 1.0).abs() < 4.0 * (2.0 / count).sqrt(), "variance {var}");
        Ok(())
    }
}
