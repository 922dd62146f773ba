//! The whole way on two-dimensional data: a small network is trained on what `TrainingBatch` makes, and samples fall where the data is.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear};
use elucidate_samplers::{ImageNoise, NoiseSource, Preconditioned, Setting, TrainingBatch};
use elucidate_schedules::{NoiseInput, Preconditioning, TrainingNoise};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Four spots with a standard deviation of 0.05, with a half, a quarter and twice an eighth of the data.
const SPOTS: [([f32; 2], f64); 4] =
    [([0.6, 0.6], 0.5), ([-0.6, 0.6], 0.25), ([-0.6, -0.6], 0.125), ([0.6, -0.6], 0.125)];

fn normal(seed: u64, n: usize) -> Result<Tensor> {
    let like = Tensor::zeros((n, 2), DType::F32, &Device::Cpu)?;
    ImageNoise::seeded(seed, 0..n as u64).noise(&like, 0.0, 0.0)
}

fn data(seed: u64, n: usize) -> Result<Tensor> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut spot = || {
        let mut u: f64 = generator.random();
        let chosen = SPOTS.iter().find(|(_, share)| {
            u -= share;
            u < 0.0
        });
        chosen.unwrap_or(&SPOTS[3]).0
    };
    let centres: Vec<f32> = (0..n).flat_map(|_| spot()).collect();
    Tensor::from_vec(centres, (n, 2), &Device::Cpu)? + (normal(seed + 1, n)? * 0.05)?
}

/// Two hidden layers of 96; of the noise level it is told the logarithm's sines and cosines.
struct Network([Linear; 3]);

impl Network {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self([linear(10, 96, vb.pp("a"))?, linear(96, 96, vb.pp("b"))?, linear(96, 2, vb.pp("c"))?]))
    }

    fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let time = time.unsqueeze(1)?;
        let waves: Vec<Tensor> = (0..4)
            .flat_map(|k| {
                [(&time * 2f64.powi(k)).and_then(|t| t.sin()), (&time * 2f64.powi(k)).and_then(|t| t.cos())]
            })
            .collect::<Result<_>>()?;
        let input = Tensor::cat(&[std::slice::from_ref(x), waves.as_slice()].concat(), 1)?;
        let Self([a, b, c]) = self;
        c.forward(&b.forward(&a.forward(&input)?.silu()?)?.silu()?)
    }
}

/// candle's generator cannot be seeded: uniform weights as PyTorch's linear layers have them, always the same.
fn seed(weights: &VarMap) -> Result<()> {
    let mut generator = ChaCha8Rng::seed_from_u64(7);
    let data = weights.data().lock().expect("no other thread has it");
    let mut vars: Vec<_> = data.iter().collect();
    vars.sort_by_key(|(name, _)| (*name).clone());
    for (_, var) in vars {
        let bound = (*var.dims().last().unwrap_or(&1) as f32).sqrt().recip();
        let values: Vec<f32> =
            (0..var.elem_count()).map(|_| bound * (2.0 * generator.random::<f32>() - 1.0)).collect();
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

/// The share of samples within 0.25 of each spot.
fn shares(samples: &Tensor) -> Result<[f64; 4]> {
    let points = samples.to_vec2::<f32>()?;
    Ok(SPOTS.map(|([x, y], _)| {
        let near = points.iter().filter(|p| (p[0] - x).hypot(p[1] - y) < 0.25).count();
        near as f64 / points.len() as f64
    }))
}

#[test]
fn a_toy_is_learned_and_sampled() -> Result<()> {
    let edm = Preconditioning::edm(0.6, NoiseInput::QuarterLogSigma);
    let low = Preconditioning::edm(0.4, NoiseInput::QuarterLogSigma);
    for model in [edm, low] {
        let training_noise = TrainingNoise::default();
        let weights = VarMap::new();
        let network = Network::new(VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu))?;
        seed(&weights)?;
        let mut adam = AdamW::new(weights.all_vars(), ParamsAdamW { lr: 3e-3, ..ParamsAdamW::default() })?;
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        for step in 0..1200 {
            adam.set_learning_rate(3e-3 * (1.0 - f64::from(step) / 1200.0));
            let seed = 10 * step as u64;
            let sigmas: Vec<f64> = (0..256)
                .map(|_| training_noise.sigma(generator.random(), &model.schedule, model.scale))
                .collect();
            let batch = TrainingBatch::new(&model, &data(seed, 256)?, &normal(seed + 5, 256)?, &sigmas)?;
            let error = (network.forward(&batch.input, &batch.time)? - &batch.target)?;
            adam.backward_step(&error.sqr()?.mean_all()?)?;
        }
        let denoiser = Preconditioned::new(|x: &Tensor, t: &Tensor| network.forward(x, t), model);
        for text in ["heun 20", "dpmpp_2m 20", "euler_ancestral 60"] {
            let setting = Setting::parse(text, &model).expect("a setting");
            let sigmas = setting.sigmas(&model).expect("steps that fall");
            let x = (normal(3, 2000)? * setting.sampler.start_std(sigmas[0]))?;
            let mut noise = ImageNoise::seeded(4, 0..2000);
            let samples = setting.sampler.sample(&denoiser, &x, &sigmas, &mut noise, &mut |_| Ok(()))?;
            let found = shares(&samples.images)?;
            println!("{model:?} {text}: {found:.3?}");
            assert!(found.iter().sum::<f64>() > 0.8, "{model:?} {text}: {found:?}");
            for (share, (_, expected)) in found.iter().zip(SPOTS) {
                assert!((share - expected).abs() < 0.08, "{model:?} {text}: {found:?}");
            }
        }
    }
    Ok(())
}
