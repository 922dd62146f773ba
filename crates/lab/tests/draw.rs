//! Drawing with a denoiser that is exact: the samples have the data's mean and variance, whatever σ they begin at.

use anyhow::Result;
use candle_core::{Device, Tensor};
use elucidate_core::rng::Streams;
use elucidate_lab::evaluate::draw::{Batches, draw};
use elucidate_samplers::{Preconditioned, Setting};
use elucidate_schedules::{NoiseSchedule, Preconditioning, Prediction};

const MEAN: f64 = 0.2;
const STD: f64 = 0.1;

/// D(x; σ) = (s²·x + σ²·μ)/(s² + σ²) for pixels N(μ, s²), as an x₀-prediction along σ = t at scale b.
fn exact(scale: f64) -> Preconditioned<impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync> {
    let model = Preconditioning { scale, ..Preconditioning::along(Prediction::X0 {}, NoiseSchedule::Edm {}) };
    let network = move |input: &Tensor, time: &Tensor| {
        // input = b·x/√(1 + b²σ²), time = bσ; the answer is b·D.
        let s = f64::from(time.to_vec1::<f32>()?[0]);
        let (sigma, x) = (s / scale, (input * (1f64.hypot(s) / scale))?);
        let total = STD.powi(2) + sigma.powi(2);
        ((x * (STD.powi(2) / total))? + MEAN * sigma.powi(2) / total)? * scale
    };
    Preconditioned::new(network, model)
}

#[test]
fn samples_of_an_exact_denoiser_have_the_datas_mean_and_variance() -> Result<()> {
    let (streams, n) = (Streams::new(5), 12);
    let batches = Batches::new(&Device::Cpu, Some(7));
    for (scale, setting) in [
        (1.0, "heun 30"),
        (1.0, "heun 20 sigma_max=3"),
        (1.0, "heun 100 sigma_max=1000"),
        (0.5, "heun 30"),
        (1.0, "heun 100 s_churn=10"),
        (1.0, "dpmpp_2m_sde 150"),
        (1.0, "euler_ancestral 1000"),
        (1.0, "ddim 1000 sigma_max=50"),
        (0.5, "ddim 1000 sigma_max=50"),
        (1.0, "lms 60"),
        (1.0, "dpm_adaptive rtol=0.005 atol=0.0005"),
    ] {
        let denoiser = exact(scale);
        let setting = Setting::parse(setting, &denoiser.preconditioning)?;
        let drawn = draw(&denoiser, &setting, &streams, n, &batches, &|_| ())?;
        assert_eq!(drawn.images.dims(), [n, 1, 32, 32]);
        let values = drawn.images.flatten_all()?.to_vec1::<f32>()?;
        let count = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let std = (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count).sqrt();
        // From 3 the mean of the beginning, 0 instead of 0.2, is still seen: by 0.2·s/√(s² + 3²).
        assert!((mean - MEAN).abs() < 0.01, "{setting}: mean {mean:.4}");
        assert!((std / STD - 1.0).abs() < 0.03, "{setting}: std {std:.4}");
        // Sample k is the same whatever is drawn beside it.
        if !setting.sampler.looks_across_images() {
            let few = draw(&denoiser, &setting, &streams, 3, &Batches::new(&Device::Cpu, None), &|_| ())?;
            let first = drawn.images.narrow(0, 0, 3)?;
            assert_eq!(few.images.flatten_all()?.to_vec1::<f32>()?, first.flatten_all()?.to_vec1::<f32>()?);
        }
    }
    Ok(())
}
