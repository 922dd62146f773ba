//! With candle's own ops the same comes out. The switch to them is the whole process's, so this program has one test.

mod common;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use common::{FIXTURES, difference, largest, twenty_steps};
use elucidate_core::params::Params;
use elucidate_core::rng::Streams;
use elucidate_core::unet::{UNet2DConfig, UNet2DModel};

#[test]
fn candles_ops_give_what_our_kernels_give() -> Result<()> {
    let gradients = [step_gradients(0)?, step_gradients(1)?].concat();
    let (params, state) = twenty_steps()?;
    elucidate_kernels::force_candle_ops(true);
    assert!(elucidate_kernels::candle_ops_forced());
    for name in FIXTURES {
        let off = difference(name, DType::F32).context(name)?;
        assert!(off <= 1e-4, "{name} differs from diffusers by {off:.1e}");
    }

    let candles = [step_gradients(0)?, step_gradients(1)?].concat();
    assert_eq!(gradients.len(), candles.len());
    for ((name, ours), (_, candles)) in gradients.iter().zip(&candles) {
        let off = largest(&(ours - candles)?)? / largest(candles)?.max(1e-2);
        assert!(off < 1e-3, "the gradient of {name} differs by {off:.1e}");
    }

    let (params_candle, state_candle) = twenty_steps()?;
    let pairs = [
        (params.snapshot()?, params_candle.snapshot()?),
        (state.m, state_candle.m),
        (state.v, state_candle.v),
        (state.ema, state_candle.ema),
    ];
    for (ours, candles) in pairs {
        for (name, tensor) in ours {
            let [ours, candles] = [&tensor, &candles[&name]].map(|t| t.flatten_all()?.to_vec1::<f32>());
            assert_eq!(ours?, candles?, "Adam's {name}");
        }
    }
    Ok(())
}

/// Every gradient of a training step's loss.
fn step_gradients(downsample_padding: usize) -> Result<Vec<(String, Tensor)>> {
    let config = UNet2DConfig { downsample_padding, ..UNet2DConfig::with_blocks(&[8, 16], 1, &[1]) };
    let streams = Streams::new(4);
    let (model, params) = Params::init(&streams, &Device::Cpu, |vb| UNet2DModel::new(&config, vb))?;
    let x = streams.normal_images("x", 0..5, &[1, 16, 16], &Device::Cpu)?;
    let target = streams.normal_images("target", 0..5, &[1, 16, 16], &Device::Cpu)?;
    let time = Tensor::new(&[0.1f32, 0.5, 1.0, 7.0, 80.0], &Device::Cpu)?;
    let grads = (model.forward(&x, &time)? - target)?.sqr()?.mean_all()?.backward()?;
    params
        .vars()
        .iter()
        .map(|(name, var)| Ok((name.clone(), grads.get(var).context(name.clone())?.clone())))
        .collect()
}
