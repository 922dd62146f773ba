//! Brownian paths: parts add up, have their variance, and do not depend on each other; and SDE samplers converge along them.

use candle_core::{DType, Device, Result, Tensor};
use elucidate_samplers::{BrownianPaths, ImageNoise, NoiseSource, Setting};
use elucidate_schedules::{NoiseInput, Preconditioning};
use mixture::Mixture;

#[path = "common/mixture.rs"]
mod mixture;

fn like(images: usize, size: usize) -> Result<Tensor> {
    Tensor::zeros((images, size), DType::F64, &Device::Cpu)
}

/// W(from) − W(to) of `images` paths.
fn part(seed: u64, images: u64, size: usize, from: f64, to: f64) -> Result<Vec<f64>> {
    let z = BrownianPaths::seeded(seed, 0..images).noise(&like(images as usize, size)?, from, to)?;
    (z * (from - to).sqrt())?.flatten_all()?.to_vec1()
}

#[test]
fn parts_add_up() -> Result<()> {
    let levels = [1200.0, 300.0, 101.0, 80.0, 30.0, 4.0, 1.0, 0.3, 0.01];
    let mut sum = [0.0; 20];
    let mut paths = BrownianPaths::seeded(3, 0..4);
    for pair in levels.windows(2) {
        let z = (paths.noise(&like(4, 5)?, pair[0], pair[1])? * (pair[0] - pair[1]).sqrt())?;
        sum.iter_mut().zip(z.flatten_all()?.to_vec1::<f64>()?).for_each(|(s, z)| *s += z);
    }
    for (sum, whole) in sum.iter().zip(part(3, 4, 5, 1200.0, 0.01)?) {
        assert!((sum - whole).abs() < 1e-3, "{sum} is not {whole}");
    }
    Ok(())
}

#[test]
fn parts_have_their_variance_and_disjoint_ones_are_independent() -> Result<()> {
    let (n, size) = (200, 64);
    let count = (n * size) as f64;
    let mean_product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / count;
    let pairs = [(80.0, 40.0), (40.0, 3.0), (3.0, 2.9), (0.5, 0.011), (0.011, 0.01)];
    let above = [(1200.0, 700.0), (700.0, 300.0), (300.0, 150.0), (150.0, 100.0), (100.0, 80.0), (1e6, 1e5)];
    let pairs = [&pairs[..], &above].concat();
    let parts: Vec<Vec<f64>> =
        pairs.iter().map(|&(from, to)| part(11, n as u64, size, from, to)).collect::<Result<_>>()?;
    for ((from, to), values) in pairs.iter().zip(&parts) {
        let variance = mean_product(values, values) / (from - to);
        // Four standard errors.
        assert!((variance - 1.0).abs() < 4.0 * (2.0 / count).sqrt(), "{from} to {to}: variance {variance}");
    }
    for i in 0..parts.len() {
        for j in 0..i {
            let scale = ((pairs[i].0 - pairs[i].1) * (pairs[j].0 - pairs[j].1)).sqrt();
            let correlation = mean_product(&parts[i], &parts[j]) / scale;
            assert!(
                correlation.abs() < 4.5 / count.sqrt(),
                "{:?} and {:?}: {correlation}",
                pairs[i],
                pairs[j]
            );
        }
    }
    Ok(())
}

#[test]
fn an_images_noise_does_not_depend_on_those_beside_it() -> Result<()> {
    let alone = |source: &mut dyn NoiseSource| -> Result<Vec<f64>> {
        source.noise(&like(1, 3)?, 2.0, 1.0)?.flatten_all()?.to_vec1()
    };
    let all = BrownianPaths::seeded(1, 0..6).noise(&like(6, 3)?, 2.0, 1.0)?.to_vec2::<f64>()?;
    assert_eq!(all[4], alone(&mut BrownianPaths::seeded(1, 4..5))?);
    assert_ne!(all[4], all[5]);
    let all = ImageNoise::seeded(1, 0..6).noise(&like(6, 3)?, 2.0, 1.0)?.to_vec2::<f64>()?;
    assert_eq!(all[4], alone(&mut ImageNoise::seeded(1, 4..5))?);
    assert_ne!(all[4], all[5]);
    let mut steps = ImageNoise::seeded(1, 4..5);
    assert_eq!(alone(&mut steps)?, all[4]);
    assert_ne!(alone(&mut steps)?, all[4]);
    Ok(())
}

/// Root mean square distance between the ends of runs with `steps` and with twice as many, along the same paths.
fn distance(setting: &str, steps: usize, data: Mixture) -> Result<f64> {
    let model = Preconditioning::edm(0.5, NoiseInput::Sigma);
    let (images, size) = (16, 16);
    let end = |steps: usize| -> Result<Tensor> {
        let setting = Setting::parse(&format!("{setting} steps={steps} sigma_min=0.05 sigma_max=10"), &model)
            .expect("a setting");
        let mut sigmas = setting.sigmas(&model).expect("steps that fall");
        sigmas.pop();
        let x = (ImageNoise::seeded(5, 0..images as u64).noise(&like(images, size)?, 0.0, 0.0)? * 10.0)?;
        let mut noise = BrownianPaths::seeded(7, 0..images as u64);
        Ok(setting.sampler.sample(&data, &x, &sigmas, &mut noise, &mut |_| Ok(()))?.images)
    };
    (end(steps)? - end(2 * steps)?)?.sqr()?.mean_all()?.sqrt()?.to_scalar()
}

#[test]
fn sde_samplers_converge_strongly() -> Result<()> {
    let data = Mixture { mean: 0.0, std: 0.5 };
    for setting in ["dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde solver_type=heun"] {
        let (coarse, fine) = (distance(setting, 50, data)?, distance(setting, 400, data)?);
        // Of order ½ at the least: eight times the steps, at most 1/√8 of the distance, with some room.
        assert!(fine < 0.45 * coarse, "{setting}: {coarse:.2e} and {fine:.2e}");
        println!("{setting}: {coarse:.2e} with 50 steps, {fine:.2e} with 400");
    }
    Ok(())
}
