//! What a network is trained on, and the denoiser that undoes it: for every prediction, in any precision, with no graph left behind.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Module, VarBuilder, VarMap};
use elucidate_samplers::{Denoiser, ImageNoise, NoiseSource, Preconditioned, Setting, TrainingBatch};
use elucidate_schedules::{NoiseInput, NoiseSchedule, Preconditioning, Prediction};

fn normal(seed: u64, n: usize, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let like = Tensor::zeros([&[n], shape].concat(), dtype, &Device::Cpu)?;
    ImageNoise::seeded(seed, 0..n as u64).noise(&like, 0.0, 0.0)
}

fn all() -> Vec<Preconditioning> {
    let along = |prediction| Preconditioning { prediction, ..Preconditioning::lesson_eps(true) };
    let mean = Prediction::Edm { sigma_data: 0.5, noise_input: NoiseInput::QuarterLogSigma, mean: -0.4 };
    vec![
        Preconditioning::edm(0.66, NoiseInput::Sigma),
        Preconditioning { prediction: mean, ..Preconditioning::edm(0.5, NoiseInput::Sigma) },
        Preconditioning { prediction: Prediction::Ve {}, ..Preconditioning::edm(0.5, NoiseInput::Sigma) },
        along(Prediction::Eps {}),
        along(Prediction::V {}),
        along(Prediction::X0 {}),
        Preconditioning { schedule: NoiseSchedule::RectifiedFlow {}, ..along(Prediction::Flow {}) },
    ]
}

#[test]
fn inputs_and_targets_have_unit_variance_at_every_sigma() -> Result<()> {
    let (n, sigma_data) = (64, 0.66);
    let clean = (normal(1, n, &[1, 32, 32], DType::F32)? * sigma_data)?;
    let noise = normal(2, n, &[1, 32, 32], DType::F32)?;
    let model = Preconditioning::edm(sigma_data, NoiseInput::Sigma);
    for sigma in [0.01, 0.3, 1.0, 40.0] {
        let batch = TrainingBatch::new(&model, &clean, &noise, &vec![sigma; n])?;
        for (name, tensor) in [("input", batch.input), ("target", batch.target)] {
            let variance = tensor.sqr()?.mean_all()?.to_scalar::<f32>()?;
            // 65,536 numbers: one standard error is 0.0055.
            assert!((variance - 1.0).abs() < 0.025, "{name} has variance {variance} at σ = {sigma}");
        }
    }
    Ok(())
}

#[test]
fn a_network_that_answers_the_target_makes_the_denoiser_that_gives_the_clean_images() -> Result<()> {
    let clean = normal(1, 4, &[1, 2, 2], DType::F64)?;
    let noise = normal(2, 4, &[1, 2, 2], DType::F64)?;
    let sigma = [0.02, 0.5, 3.0, 80.0];
    for model in all() {
        let batch = TrainingBatch::new(&model, &clean, &noise, &sigma)?;
        let network = |x: &Tensor, time: &Tensor| {
            let off = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>();
            assert_eq!(off(x, &batch.input)?, 0.0);
            assert_eq!(off(time, &batch.time)?, 0.0);
            Ok(batch.target.clone())
        };
        let denoiser = Preconditioned { network, preconditioning: model, dtype: DType::F64 };
        let denoised = denoiser.denoise(&batch.noised, &sigma)?;
        let largest = (denoised - &clean)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
        assert!(largest < 1e-12 * 80.0, "{model:?} is off by {largest}");
    }
    Ok(())
}

#[test]
fn sampling_a_model_with_trainable_weights_records_no_graph() -> Result<()> {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let linear = candle_nn::linear(4, 4, vb)?;
    let model = Preconditioning::edm(0.5, NoiseInput::Sigma);
    let denoiser = Preconditioned::new(|x: &Tensor, _: &Tensor| linear.forward(x), model);
    let x = (normal(1, 3, &[4], DType::F32)? * 80.0)?;
    for name in ["heun", "lms", "dpmpp_2m_sde"] {
        let setting = Setting::parse(name, &model).expect("a setting");
        let sigmas = setting.sigmas(&model).expect("steps that fall");
        let mut noise = ImageNoise::seeded(0, 0..3);
        let mut steps = 0;
        let sampled = setting.sampler.sample(&denoiser, &x, &sigmas, &mut noise, &mut |step| {
            steps += 1;
            assert!(!step.denoised.track_op() && !step.x.track_op());
            Ok(())
        })?;
        assert_eq!(steps, 20);
        assert!(!sampled.images.track_op(), "{name}");
        // What is there has no way back to the weights.
        let gradients = sampled.images.sum_all()?.backward()?;
        assert!(weights.all_vars().iter().all(|var| gradients.get(var).is_none()), "{name}");
    }
    Ok(())
}

#[test]
fn half_precision_is_the_networks_alone() -> Result<()> {
    let model = Preconditioning::edm(0.5, NoiseInput::Sigma);
    let sample = |dtype: DType| -> Result<Tensor> {
        let network = |x: &Tensor, time: &Tensor| {
            assert_eq!((x.dtype(), time.dtype()), (dtype, dtype));
            x * 0.3
        };
        let denoiser = Preconditioned { network, preconditioning: model, dtype };
        let setting = Setting::parse("heun steps=10", &model).expect("a setting");
        let sigmas = setting.sigmas(&model).expect("steps that fall");
        let x = (normal(1, 3, &[4], DType::F32)? * 80.0)?;
        let mut noise = ImageNoise::seeded(0, 0..3);
        Ok(setting.sampler.sample(&denoiser, &x, &sigmas, &mut noise, &mut |_| Ok(()))?.images)
    };
    let whole = sample(DType::F32)?;
    for dtype in [DType::F16, DType::BF16] {
        let half = sample(dtype)?;
        assert_eq!(half.dtype(), DType::F32);
        let off = (&half - &whole)?.abs()?.max_all()?.to_scalar::<f32>()?;
        let size = whole.abs()?.max_all()?.to_scalar::<f32>()?;
        // A state in bf16 would be off by one part in 256 after each step.
        assert!(off < 0.02 * size, "{dtype:?}: off by {off} of {size}");
    }
    Ok(())
}
