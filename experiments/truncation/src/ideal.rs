//! The ideal denoiser of a finite set of images.

use candle_core::{D, DType, Result, Tensor};
use elucidate_samplers::Denoiser;

/// D(x; σ) = Σᵢ N(x; yᵢ, σ²)·yᵢ / Σᵢ N(x; yᵢ, σ²): the mean of the images yᵢ, weighted by how likely each is to have become x (Karras
/// 2022, appendix B.3, eq. 57). It is exact, and needs no training.
///
/// All of it is f64: the weights are softmax((x·yᵢ − ½|yᵢ|²)/σ²), in which |x|² has cancelled by algebra and not by subtraction, and the
/// largest exponent is taken off before the exponential. At σ 0.002 an exponent of about 10⁸ is known to 10⁻⁸; in f32 it would be
/// known to 10.
#[derive(Debug, Clone)]
pub struct IdealDenoiser {
    /// (N, d), f64.
    images: Tensor,
    /// ½|yᵢ|², (1, N).
    half_squares: Tensor,
}

impl IdealDenoiser {
    /// Of `images` (N, …).
    ///
    /// # Errors
    /// When there is no memory for them in f64.
    pub fn new(images: &Tensor) -> Result<Self> {
        let images = images.flatten_from(1)?.to_dtype(DType::F64)?;
        let half_squares = (images.sqr()?.sum_keepdim(1)?.t()? * 0.5)?;
        Ok(Self { images, half_squares })
    }

    /// Which of its images is nearest to each of `x` (n, …).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn nearest(&self, x: &Tensor) -> Result<Vec<u32>> {
        self.exponents(&x.flatten_from(1)?.to_dtype(DType::F64)?)?.argmax(D::Minus1)?.to_vec1()
    }

    /// x·yᵢ − ½|yᵢ|², (n, N), for x (n, d).
    fn exponents(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.images.t()?)?.broadcast_sub(&self.half_squares)
    }
}

impl Denoiser for IdealDenoiser {
    fn denoise(&self, x: &Tensor, sigma: &[f64]) -> Result<Tensor> {
        let flat = x.flatten_from(1)?.to_dtype(DType::F64)?;
        let inverse: Vec<f64> = sigma.iter().map(|sigma| sigma.powi(-2)).collect();
        let inverse = Tensor::from_vec(inverse, (sigma.len(), 1), x.device())?;
        let exponents = self.exponents(&flat)?;
        let below = exponents.broadcast_sub(&exponents.max_keepdim(1)?)?;
        let weights = below.broadcast_mul(&inverse)?.exp()?;
        // Where σ is small most weights are 0 for every x: these images need not be summed.
        let largest = weights.max(0)?.to_vec1::<f64>()?;
        let likely: Vec<u32> =
            (0..).zip(&largest).filter(|(_, weight)| **weight > 0.0).map(|(i, _)| i).collect();
        let (images, weights) = match likely.len() < largest.len() / 2 {
            true => {
                let likely = Tensor::new(likely, x.device())?;
                (self.images.index_select(&likely, 0)?, weights.index_select(&likely, 1)?)
            }
            false => (self.images.clone(), weights),
        };
        let mean = weights.matmul(&images)?.broadcast_div(&weights.sum_keepdim(1)?)?;
        mean.reshape(x.shape())?.to_dtype(x.dtype())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Four images of two pixels.
    fn ideal() -> Result<IdealDenoiser> {
        IdealDenoiser::new(&Tensor::new(
            &[[-1f32, -1.0], [-1.0, 1.0], [1.0, -1.0], [0.5, 0.75]],
            &Device::Cpu,
        )?)
    }

    #[test]
    fn it_is_the_weighted_mean_and_at_the_ends_the_mean_of_all_and_the_nearest() -> Result<()> {
        let x = [0.3f64, -0.2];
        let denoised = |sigma: f64| -> Result<Vec<f64>> {
            let out = ideal()?.denoise(&Tensor::new(&[x], &Device::Cpu)?, &[sigma])?;
            out.flatten_all()?.to_vec1()
        };
        let images = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [0.5, 0.75]];
        for sigma in [0.3, 1.0, 5.0] {
            let weight = |y: &[f64; 2]| {
                (-((x[0] - y[0]).powi(2) + (x[1] - y[1]).powi(2)) / (2.0 * sigma * sigma)).exp()
            };
            let total: f64 = images.iter().map(weight).sum();
            let expected = [0, 1].map(|i| images.iter().map(|y| weight(y) * y[i]).sum::<f64>() / total);
            for (a, b) in denoised(sigma)?.iter().zip(expected) {
                assert!((a - b).abs() < 1e-14, "σ {sigma}: {a} is not {b}");
            }
        }
        // Far below the distances the weights of all but one underflow; none of them is 0/0.
        assert_eq!(denoised(1e-3)?, [0.5, 0.75]);
        let far = denoised(1e6)?;
        assert!((far[0] + 0.125).abs() < 1e-9 && (far[1] + 0.0625).abs() < 1e-9, "{far:?}");
        Ok(())
    }

    #[test]
    fn small_sigmas_keep_their_digits_where_images_are_large() -> Result<()> {
        // Two images that differ by 2·10⁻⁴ in one of 1,024 pixels: at σ 10⁻² their weights from the middle differ by e^0.02 at most.
        let mut values = vec![1f64; 2 * 1024];
        (values[0], values[1024]) = (1.0 - 1e-4, 1.0 + 1e-4);
        let ideal = IdealDenoiser::new(&Tensor::from_vec(values, (2, 1024), &Device::Cpu)?)?;
        let mut x = vec![1f64; 1024];
        x[0] = 1.0 + 3e-5;
        let out = ideal.denoise(&Tensor::from_vec(x, (1, 1024), &Device::Cpu)?, &[1e-4])?;
        // D − 1 = a·tanh(a·(x − 1)/σ²) for images 1 ± a.
        let expected = 1e-4 * (1e-4 * 3e-5 / 1e-8f64).tanh();
        let found = out.flatten_all()?.to_vec1::<f64>()?[0] - 1.0;
        assert!((found / expected - 1.0).abs() < 1e-4, "{found:e} is not {expected:e}");
        Ok(())
    }

    #[test]
    fn the_nearest_is_an_image_itself() -> Result<()> {
        let ideal = ideal()?;
        assert_eq!(ideal.nearest(&ideal.images)?, [0, 1, 2, 3]);
        Ok(())
    }
}
