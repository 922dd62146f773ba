//! Karras preconditioning: targets and inputs of unit variance, and a denoiser that undoes what training does.

use candle_core::{DType, Device, Result, Tensor};
use elucidate_core::rng::Streams;
use elucidate_samplers::{Denoiser, EdmDenoiser, NoiseInput, edm_batch};

#[test]
fn inputs_and_targets_have_unit_variance_at_every_sigma() -> Result<()> {
    let streams = Streams::new(5);
    let (n, sigma_data) = (64, 0.66);
    let clean = (streams.normal_images("clean", 0..n, &[1, 32, 32], &Device::Cpu)? * sigma_data)?;
    let noise = streams.normal_images("noise", 0..n, &[1, 32, 32], &Device::Cpu)?;
    for sigma in [0.01, 0.3, 1.0, 40.0] {
        let sigmas = Tensor::full(sigma as f32, n as usize, &Device::Cpu)?;
        let batch = edm_batch(&clean, &noise, &sigmas, sigma_data, NoiseInput::Sigma)?;
        for (name, tensor) in [("input", batch.input), ("target", batch.target)] {
            let variance = tensor.sqr()?.mean_all()?.to_scalar::<f32>()?;
            // 65,536 numbers: one standard error is 0.0055.
            assert!((variance - 1.0).abs() < 0.025, "{name} has variance {variance} at σ = {sigma}");
        }
    }
    Ok(())
}

#[test]
fn a_network_that_answers_the_target_denoises_perfectly() -> Result<()> {
    let streams = Streams::new(6);
    let clean = streams.normal_images("clean", 0..4, &[1, 4, 4], &Device::Cpu)?.to_dtype(DType::F64)?;
    let noise = streams.normal_images("noise", 0..4, &[1, 4, 4], &Device::Cpu)?.to_dtype(DType::F64)?;
    let sigma = Tensor::new(&[0.02f64, 0.5, 3.0, 80.0], &Device::Cpu)?;
    for noise_input in [NoiseInput::Sigma, NoiseInput::QuarterLogSigma] {
        let batch = edm_batch(&clean, &noise, &sigma, 0.66, noise_input)?;
        let network = |x: &Tensor, time: &Tensor| {
            let off = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>();
            assert_eq!(off(x, &batch.input)?, 0.0);
            assert_eq!(off(time, &batch.time)?, 0.0);
            Ok(batch.target.clone())
        };
        let denoiser = EdmDenoiser { network, sigma_data: 0.66, noise_input };
        let denoised = denoiser.denoise(&batch.noised, &sigma)?;
        let largest = (denoised - &clean)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
        assert!(largest < 1e-12, "off by {largest}");
    }
    Ok(())
}
