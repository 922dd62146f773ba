//! The learned weight of errors by noise level.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder};
use elucidate_core::rng::Streams;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::{PI, SQRT_2};

/// u(σ), the logarithm of the error that is expected at noise level σ: a linear layer without bias over 128 Fourier features
/// √2·cos(2π(f·¼ ln σ + φ)), learned beside the network with the loss e/e^u + u (Karras 2024, "EDM2", eq. 14 to 16). At first 0.
#[derive(Debug, Clone)]
pub struct Uncertainty {
    frequencies: Vec<(f64, f64)>,
    linear: Linear,
}

const FEATURES: usize = 128;

impl Uncertainty {
    /// What its parameters' names begin with.
    pub const PREFIX: &'static str = "uncertainty.";

    /// Its frequencies f ~ N(0, 1) and phases φ ~ U(0, 1) are those of the run.
    ///
    /// # Errors
    /// When `vb` lacks a parameter in its shape.
    pub fn new(streams: &Streams, vb: &VarBuilder) -> Result<Self> {
        let mut stream = streams.stream("uncertainty", 0);
        let frequencies =
            (0..FEATURES).map(|_| (StandardNormal.sample(&mut stream), stream.random())).collect();
        let zero = candle_nn::Init::Const(0.0);
        let weight =
            vb.pp(Self::PREFIX.trim_end_matches('.')).get_with_hints((1, FEATURES), "weight", zero)?;
        Ok(Self { frequencies, linear: Linear::new(weight, None) })
    }

    /// The loss of images with squared errors `errors` (n) at noise levels `sigmas`: the mean of e/e^u + u.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn loss(&self, errors: &Tensor, sigmas: &[f64]) -> Result<Tensor> {
        let u = self.at(sigmas, errors.device())?;
        ((errors * u.neg()?.exp()?)? + u)?.mean_all()
    }

    /// u of each σ, (n).
    fn at(&self, sigmas: &[f64], device: &Device) -> Result<Tensor> {
        let feature = |sigma: f64, (f, phase): (f64, f64)| {
            (SQRT_2 * (2.0 * PI * (f * sigma.ln() / 4.0 + phase)).cos()) as f32
        };
        let features: Vec<f32> = sigmas
            .iter()
            .flat_map(|&sigma| self.frequencies.iter().map(move |&f| feature(sigma, f)))
            .collect();
        let features = Tensor::from_vec(features, (sigmas.len(), FEATURES), device)?;
        self.linear.forward(&features)?.flatten_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elucidate_core::params::Params;

    #[test]
    fn it_learns_the_logarithm_of_the_error() -> Result<()> {
        let streams = Streams::new(3);
        let (u, params) = Params::init(&streams, &Device::Cpu, |vb| Uncertainty::new(&streams, &vb))?;
        let sigmas: Vec<f64> = (0..64).map(|i| (f64::from(i) / 16.0 - 3.0).exp()).collect();
        let wanted: Vec<f32> = sigmas.iter().map(|sigma| (0.1 + 0.05 * sigma.ln().powi(2)) as f32).collect();
        let errors = Tensor::new(wanted.as_slice(), &Device::Cpu)?;
        assert_eq!(u.at(&sigmas, &Device::Cpu)?.to_vec1::<f32>()?, [0.0; 64]);
        // With u = 0 the loss is the mean error.
        let mean = wanted.iter().sum::<f32>() / 64.0;
        assert!((u.loss(&errors, &sigmas)?.to_scalar::<f32>()? - mean).abs() < 1e-6);
        for _ in 0..2000 {
            let gradients = u.loss(&errors, &sigmas)?.backward()?;
            for var in params.vars().values() {
                let step = (gradients.get(var).expect("it has a gradient") * 0.02)?;
                var.set(&(var.as_detached_tensor() - step)?)?;
            }
        }
        // At the minimum e^u is the error itself.
        for (found, wanted) in u.at(&sigmas, &Device::Cpu)?.to_vec1::<f32>()?.iter().zip(wanted) {
            assert!((found.exp() / wanted - 1.0).abs() < 0.1, "{} is not {wanted}", found.exp());
        }
        Ok(())
    }
}
