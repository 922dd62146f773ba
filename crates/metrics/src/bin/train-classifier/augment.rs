//! The lesson's augmentation of training images.

use elucidate_core::data::PADDED_SIDE as SIDE;
use elucidate_core::rng::Stream;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Normal};

/// Pixels of an image.
pub(crate) const PIXELS: usize = SIDE * SIDE;

/// Side of a patch: a fifth of the image's.
const PATCH: usize = SIDE / 5;

/// How many patches are changed at most.
const MAX_PATCHES: usize = 4;

/// What erased pixels become: normal noise with the batch's mean and standard deviation, between its extremes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Eraser {
    noise: Normal<f32>,
    min: f32,
    max: f32,
}

impl Eraser {
    /// For a batch with these pixels; `None` where they are none or not finite.
    pub(crate) fn of(pixels: &[f32]) -> Option<Self> {
        let count = pixels.len() as f64;
        let mean = pixels.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = pixels.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        let (min, max) = (pixels.iter().copied().reduce(f32::min)?, pixels.iter().copied().reduce(f32::max)?);
        Some(Self { noise: Normal::new(mean as f32, variance.sqrt() as f32).ok()?, min, max })
    }

    fn draw(&self, stream: &mut impl Rng) -> f32 {
        self.noise.sample(stream).clamp(self.min, self.max)
    }
}

/// Shifts an image by up to a pixel each way, flips half of them left to right, and erases up to four patches or covers
/// them with copies of others.
pub(crate) fn augment(image: &mut [f32], eraser: &Eraser, stream: &mut Stream) {
    let (top, left) = (stream.random_range(0..=2), stream.random_range(0..=2));
    crop(image, top, left, eraser.min);
    if stream.random() {
        image.chunks_exact_mut(SIDE).for_each(<[f32]>::reverse);
    }
    for _ in 0..stream.random_range(0..=MAX_PATCHES) {
        let to = corner(stream);
        if stream.random() {
            patch(to).for_each(|at| image[at] = eraser.draw(stream));
        } else {
            let from = corner(stream);
            let copy: Vec<f32> = patch(from).map(|at| image[at]).collect();
            patch(to).zip(copy).for_each(|(at, pixel)| image[at] = pixel);
        }
    }
}

/// Pads an image by a pixel of `background` on each side and cuts it out again from (`top`, `left`), each 0 to 2.
fn crop(image: &mut [f32], top: usize, left: usize, background: f32) {
    let before = image.to_vec();
    let inside = |padded: usize| padded.checked_sub(1).filter(|&at| at < SIDE);
    for (at, pixel) in image.iter_mut().enumerate() {
        let from = inside(at / SIDE + top).zip(inside(at % SIDE + left));
        *pixel = from.map_or(background, |(row, column)| before[row * SIDE + column]);
    }
}

/// The first pixel of a random patch.
fn corner(stream: &mut Stream) -> usize {
    let mut along = || stream.random_range(0..=SIDE - PATCH);
    along() * SIDE + along()
}

/// The pixels of the patch whose first pixel is `corner`.
fn patch(corner: usize) -> impl Iterator<Item = usize> {
    (0..PATCH).flat_map(move |row| (0..PATCH).map(move |column| corner + row * SIDE + column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use elucidate_core::rng::Streams;

    fn ramp() -> Vec<f32> {
        (0..PIXELS).map(|at| at as f32).collect()
    }

    #[test]
    fn a_crop_brings_in_the_background() {
        let mut image = ramp();
        crop(&mut image, 1, 1, -9.0);
        assert_eq!(image, ramp());
        crop(&mut image, 0, 2, -9.0);
        assert!(image[..SIDE].iter().all(|&pixel| pixel == -9.0));
        assert_eq!(image[SIDE..2 * SIDE - 1], ramp()[1..SIDE]);
        assert_eq!(image[2 * SIDE - 1], -9.0);
        crop(&mut image, 2, 0, -9.0);
        assert_eq!(image[..SIDE], [&[-9.0], &ramp()[1..SIDE]].concat());
    }

    #[test]
    fn patches_stay_inside_the_image() {
        let last = (SIDE - PATCH) * (SIDE + 1);
        assert_eq!(patch(last).count(), PATCH * PATCH);
        assert_eq!(patch(last).max(), Some(PIXELS - 1));
        let mut stream = Streams::new(0).stream("corner", 0);
        assert!((0..2000).map(|_| corner(&mut stream)).all(|at| at % SIDE <= SIDE - PATCH && at <= last));
    }

    #[test]
    fn an_image_depends_on_its_stream_alone_and_keeps_the_batchs_range() {
        let eraser = Eraser::of(&ramp()).unwrap();
        let augmented = |k| {
            let mut image = ramp();
            augment(&mut image, &eraser, &mut Streams::new(1).stream("augmentation", k));
            image
        };
        assert_eq!(augmented(3), augmented(3));
        assert_ne!(augmented(3), augmented(4));
        for k in 0..50 {
            assert!(augmented(k).iter().all(|pixel| (0.0..=(PIXELS - 1) as f32).contains(pixel)));
        }
    }

    #[test]
    fn erased_pixels_have_the_batchs_statistics() {
        let eraser = Eraser::of(&[-1.0, -1.0, -1.0, 1.0]).unwrap();
        let mut stream = Streams::new(2).stream("erase", 0);
        let drawn: Vec<f32> = (0..20_000).map(|_| eraser.draw(&mut stream)).collect();
        // The noise is N(−½, ¾): Φ(−½/√¾) = 0.282 of it is below −1 and Φ(−1½/√¾) = 0.042 above 1.
        let share = |value: f32| drawn.iter().filter(|&&x| x == value).count() as f64 / drawn.len() as f64;
        assert!((share(-1.0) - 0.282).abs() < 0.013, "{}", share(-1.0));
        assert!((share(1.0) - 0.042).abs() < 0.006, "{}", share(1.0));
        assert!(Eraser::of(&[]).is_none());
    }
}
