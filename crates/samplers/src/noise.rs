//! Where samplers get their noise from: each image from its own stream, so that a sample depends on its number alone.

use candle_core::{Device, Result, Tensor, bail};
use elucidate_schedules::SigmaSteps;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::ops::Range;

/// Standard normal noise, as a sampler asks for it.
pub trait NoiseSource {
    /// Noise of the shape and dtype of `like` for a step from noise level `sigma` to `next`. What is given does not depend on
    /// the levels where steps draw independently; a Brownian path's part between them, scaled to variance 1, does.
    ///
    /// # Errors
    /// When it cannot be made.
    fn noise(&mut self, like: &Tensor, sigma: f64, next: f64) -> Result<Tensor>;
}

impl<F: FnMut(&Tensor, f64, f64) -> Result<Tensor>> NoiseSource for F {
    fn noise(&mut self, like: &Tensor, sigma: f64, next: f64) -> Result<Tensor> {
        self(like, sigma, next)
    }
}

/// Independent noise for each image and step, the images each from a generator of its own.
#[derive(Debug, Clone)]
pub struct ImageNoise<R = ChaCha8Rng> {
    generators: Vec<R>,
}

impl ImageNoise {
    /// For the images numbered `images`, of a seed: image k has stream k of ChaCha8.
    pub fn seeded(seed: u64, images: Range<u64>) -> Self {
        let generator = |k| {
            let mut generator = ChaCha8Rng::seed_from_u64(seed);
            generator.set_stream(k);
            generator
        };
        Self { generators: images.map(generator).collect() }
    }
}

impl<R: Rng + Send> ImageNoise<R> {
    /// From one generator an image.
    pub fn new(generators: Vec<R>) -> Self {
        Self { generators }
    }
}

impl<R: Rng + Send> NoiseSource for ImageNoise<R> {
    fn noise(&mut self, like: &Tensor, _: f64, _: f64) -> Result<Tensor> {
        each_image(like, &mut self.generators, |generator, image| fill_normal(generator, image))
    }
}

/// A Brownian path W(σ) for each image over σ from 0 to [`SigmaSteps::LARGEST_SIGMA`], the same one whatever steps are taken along
/// it: two trees of midpoints (Lévy's construction; Li 2020's virtual Brownian tree), up to σ = 100 and beyond, each point drawn
/// from the image's own seed. A step from σ to σ′ gets (W(σ) − W(σ′))/√(σ − σ′).
///
/// A tree halves the seventh root, so that all noise levels are resolved alike; [`BrownianPaths::DEPTH`] halvings down the path is a
/// straight line, and parts shorter than that are not resolved.
#[derive(Debug, Clone)]
pub struct BrownianPaths {
    seeds: Vec<[u8; 32]>,
    /// W at the end of the last step, which is where most begin.
    last: Option<(f64, Vec<f32>)>,
}

impl BrownianPaths {
    /// Halvings of a tree: the last are 1/262,144 of it.
    pub const DEPTH: u32 = 18;

    /// For the images numbered `images`, of a seed.
    pub fn seeded(seed: u64, images: Range<u64>) -> Self {
        let of_image = |k: u64| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            key[8..16].copy_from_slice(&k.to_le_bytes());
            key
        };
        Self::new(images.map(of_image).collect())
    }

    /// With one seed an image.
    pub fn new(seeds: Vec<[u8; 32]>) -> Self {
        Self { seeds, last: None }
    }

    /// W(σ) of all images, (n·`size`) numbers.
    fn at(&self, sigma: f64, size: usize) -> Vec<f32> {
        let mut values = vec![0f32; self.seeds.len() * size];
        values.par_chunks_mut(size).zip(&self.seeds).for_each(|(image, seed)| path_at(seed, sigma, image));
        values
    }
}

impl NoiseSource for BrownianPaths {
    fn noise(&mut self, like: &Tensor, sigma: f64, next: f64) -> Result<Tensor> {
        if sigma.max(next) > SigmaSteps::LARGEST_SIGMA {
            bail!("Brownian paths go up to sigma {}, not to {}", SigmaSteps::LARGEST_SIGMA, sigma.max(next));
        }
        let size = like.elem_count() / self.seeds.len().max(1);
        let from = match self.last.take() {
            Some((at, values)) if at == sigma && values.len() == like.elem_count() => values,
            _ => self.at(sigma, size),
        };
        let to = self.at(next, size);
        let scale = (sigma - next).abs().sqrt().recip() as f32;
        let values: Vec<f32> = from.iter().zip(&to).map(|(a, b)| (a - b) * scale).collect();
        self.last = Some((next, to));
        tensor_like(values, like)
    }
}

/// Where the first tree ends: few samplings begin above.
const MIDDLE: f64 = 100.0;

/// W(`sigma`) of one image into `values`.
fn path_at(seed: &[u8; 32], sigma: f64, values: &mut [f32]) {
    let normal = |number: u64| {
        let mut generator = ChaCha8Rng::from_seed(*seed);
        generator.set_stream(number);
        let mut normal = vec![0f32; values.len()];
        fill_normal(&mut generator, &mut normal);
        normal
    };
    let zero = vec![0f32; values.len()];
    let middle = after(&zero, MIDDLE, &normal(0));
    let path = match sigma <= MIDDLE {
        true => bridge((0.0, zero), (MIDDLE, middle), sigma, normal),
        false => {
            let end = after(&middle, SigmaSteps::LARGEST_SIGMA - MIDDLE, &normal(1 << 63));
            // The numbers of the second tree's points have the highest bit set.
            bridge((MIDDLE, middle), (SigmaSteps::LARGEST_SIGMA, end), sigma, |k| normal(1 << 63 | k))
        }
    };
    values.copy_from_slice(&path);
}

/// W where it was `before`, `duration` later.
fn after(before: &[f32], duration: f64, normal: &[f32]) -> Vec<f32> {
    let std = duration.sqrt() as f32;
    before.iter().zip(normal).map(|(w, z)| w + std * z).collect()
}

/// W(`sigma`) between the two σ where it is known, from points with the numbers from 1.
fn bridge(
    (start, mut low): (f64, Vec<f32>),
    (end, mut high): (f64, Vec<f32>),
    sigma: f64,
    normal: impl Fn(u64) -> Vec<f32>,
) -> Vec<f32> {
    let sigma_at = |place: f64| start + (end - start) * place.powi(7);
    // Point 1 is the middle of [0, 1]; 2k and 2k + 1 are the middles of its halves.
    let (mut number, mut from, mut to) = (1u64, 0.0f64, 1.0f64);
    for _ in 0..BrownianPaths::DEPTH {
        let middle = (from + to) / 2.0;
        let (a, m, b) = (sigma_at(from), sigma_at(middle), sigma_at(to));
        // The Brownian bridge at m: mean on the line, variance (m−a)(b−m)/(b−a).
        let (share, std) = (((m - a) / (b - a)) as f32, ((m - a) * (b - m) / (b - a)).sqrt() as f32);
        let below = sigma < m;
        for (z, (l, h)) in normal(number).iter().zip(low.iter_mut().zip(high.iter_mut())) {
            let w = *l + share * (*h - *l) + std * z;
            if below { *h = w } else { *l = w }
        }
        if below {
            to = middle
        } else {
            from = middle
        }
        number = 2 * number + u64::from(!below);
    }
    let (a, b) = (sigma_at(from), sigma_at(to));
    let share = ((sigma - a) / (b - a)) as f32;
    low.iter().zip(&high).map(|(l, h)| l + share * (h - l)).collect()
}

/// Fills `values` with standard normal numbers.
fn fill_normal(generator: &mut impl Rng, values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = StandardNormal.sample(generator));
}

/// A tensor like `like` (n, …), each image filled by its own state, n of them.
fn each_image<S: Send>(
    like: &Tensor,
    states: &mut [S],
    fill: impl Fn(&mut S, &mut [f32]) + Sync,
) -> Result<Tensor> {
    let mut values = vec![0f32; like.elem_count()];
    let size = values.len() / states.len().max(1);
    states.par_iter_mut().zip(values.par_chunks_exact_mut(size.max(1))).for_each(|(s, image)| fill(s, image));
    tensor_like(values, like)
}

fn tensor_like(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())
}
