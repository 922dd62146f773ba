//! The network that reads the noise level off an image.

use super::{ResidualBlocks, linear_without_bias};
use crate::rng::Streams;
use candle_core::{Device, Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder};
use rand::RngExt;

/// The share of features that the notebook's dropout takes away in training.
pub const DROPOUT: f64 = 0.2;

/// The classifier's six residual blocks with the notebook's head: dropout on the features, a linear layer to one value
/// without bias, and nothing after it. x_t (n, 1, 32, 32) to one value an image.
#[derive(Debug, Clone)]
pub struct NoiseLevelNetwork {
    blocks: ResidualBlocks,
    linear: Linear,
}

impl NoiseLevelNetwork {
    /// With these channels in its six blocks.
    ///
    /// # Errors
    /// When `vb` lacks a parameter in its shape.
    pub fn new(channels: [usize; 6], vb: VarBuilder) -> Result<Self> {
        let blocks = ResidualBlocks::new(channels, 1, &vb)?;
        Ok(Self { blocks, linear: linear_without_bias(channels[5], 1, &vb)? })
    }

    /// One value an image, (n), with the running statistics and all features.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.linear.forward(&self.blocks.forward(x, false)?)?.flatten_all()
    }

    /// One value an image, (n), as training has it: normalised by the batch's statistics, which move the running ones, the
    /// features of the images numbered `positions` dropped as [`dropout_mask`] says.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward_in_training(&self, x: &Tensor, streams: &Streams, positions: &[u64]) -> Result<Tensor> {
        let features = self.blocks.forward(x, true)?;
        let mask = dropout_mask(streams, positions, features.dim(1)?, DROPOUT, x.device())?;
        self.linear.forward(&(features * mask)?)?.flatten_all()
    }
}

/// What dropout (Srivastava 2014) multiplies features by, (n, `features`): 0 with probability `rate` in \[0, 1), else
/// 1/(1 − `rate`). Image k's numbers come from the stream ("dropout", k), so neither threads nor a resumption change them.
///
/// # Errors
/// When the device refuses the copy.
pub fn dropout_mask(
    streams: &Streams,
    positions: &[u64],
    features: usize,
    rate: f64,
    device: &Device,
) -> Result<Tensor> {
    let kept = (1.0 / (1.0 - rate)) as f32;
    let of_image = |&k: &u64| {
        let mut stream = streams.stream("dropout", k);
        (0..features).map(move |_| if stream.random_bool(rate) { 0.0 } else { kept }).collect::<Vec<f32>>()
    };
    let values: Vec<f32> = positions.iter().flat_map(of_image).collect();
    Tensor::from_vec(values, (positions.len(), features), &Device::Cpu)?.to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;

    const CHANNELS: [usize; 6] = [8, 8, 8, 16, 16, 32];

    #[test]
    fn dropout_keeps_the_mean_and_belongs_to_the_image() -> Result<()> {
        let streams = Streams::new(5);
        let mask = |positions: &[u64]| dropout_mask(&streams, positions, 500, 0.2, &Device::Cpu);
        let all = mask(&(0..40).collect::<Vec<_>>())?.to_vec2::<f32>()?;
        let values: Vec<f32> = all.concat();
        let dropped = values.iter().filter(|&&v| v == 0.0).count();
        assert!(values.iter().all(|&v| v == 0.0 || v == 1.25));
        // 20,000 draws: four standard errors of the share 0.2.
        assert!((dropped as f64 / 20_000.0 - 0.2).abs() < 4.0 * (0.16f64 / 20_000.0).sqrt(), "{dropped}");
        assert_eq!(mask(&[7, 3])?.to_vec2::<f32>()?, [all[7].clone(), all[3].clone()]);
        assert_ne!(all[7], all[3]);
        Ok(())
    }

    #[test]
    fn the_head_is_linear_in_the_features_and_drops_them_in_training_only() -> Result<()> {
        let streams = Streams::new(6);
        let (model, params) =
            Params::init(&streams, &Device::Cpu, |vb| NoiseLevelNetwork::new(CHANNELS, vb))?;
        let names: Vec<&String> = params.vars().keys().filter(|name| !name.starts_with("blocks.")).collect();
        assert_eq!(names, ["linear.weight"]);
        let x = streams.normal_images("x", 0..4, &[1, 32, 32], &Device::Cpu)?;
        let train = |positions: &[u64]| -> Result<Vec<f32>> {
            model.forward_in_training(&x, &streams, positions)?.to_vec1()
        };
        assert_ne!(train(&[0, 1, 2, 3])?, train(&[4, 5, 6, 7])?);
        assert_eq!(train(&[0, 1, 2, 3])?, train(&[0, 1, 2, 3])?);
        let before = model.forward(&x)?.to_vec1::<f32>()?;
        let weight = &params.vars()["linear.weight"];
        weight.set(&(weight.as_detached_tensor() * 2.0)?)?;
        let doubled: Vec<f32> = before.iter().map(|v| 2.0 * v).collect();
        assert_eq!(model.forward(&x)?.to_vec1::<f32>()?, doubled);
        Ok(())
    }

    #[test]
    fn gradients_reach_all_parameters_but_the_statistics() -> Result<()> {
        let streams = Streams::new(3);
        let (model, params) =
            Params::init(&streams, &Device::Cpu, |vb| NoiseLevelNetwork::new(CHANNELS, vb))?;
        let x = streams.normal_images("x", 0..4, &[1, 32, 32], &Device::Cpu)?;
        let grads = model.forward_in_training(&x, &streams, &[0, 1, 2, 3])?.sqr()?.mean_all()?.backward()?;
        for (name, var) in params.vars() {
            assert_eq!(grads.get(var).is_some(), !name.contains("running_"), "{name}");
        }
        Ok(())
    }
}
