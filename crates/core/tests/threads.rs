//! A step of training on any number of threads.

use anyhow::Result;
use candle_core::{Device, Tensor};
use elucidate_core::history::TrainOptions;
use elucidate_core::params::Params;
use elucidate_core::rng::Streams;
use elucidate_core::train::{Shard, Trainer};
use elucidate_core::unet::{UNet2DConfig, UNet2DModel};

#[test]
fn a_training_step_gives_the_same_bits_on_any_number_of_threads() -> Result<()> {
    for batch in [16, 32, 70] {
        let expected = bits_after_two_steps(1, batch)?;
        for threads in [2, 3, 8] {
            let bits = bits_after_two_steps(threads, batch)?;
            assert!(bits == expected, "batches of {batch} on {threads} threads give other bits");
        }
    }
    Ok(())
}

/// The weights after two steps on `threads` threads.
fn bits_after_two_steps(threads: usize, batch: usize) -> Result<Vec<u32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| {
        let config = UNet2DConfig::with_blocks(&[16, 24, 32], 1, &[1, 2]);
        let streams = Streams::new(5);
        let (model, params) = Params::init(&streams, &Device::Cpu, |vb| UNet2DModel::new(&config, vb))?;
        let options = TrainOptions {
            epochs: 1,
            batch_size: batch,
            shard_size: 32.min(batch.div_ceil(2)),
            max_lr: 1e-2,
            adam_eps: 1e-5,
            ema_decay: 0.9,
        };
        let images = streams.normal_images("images", 0..2 * batch as u64, &[1, 16, 16], &Device::Cpu)?;
        let loss = |shard: &Shard| {
            let x = images.narrow(0, shard.positions.start as usize, shard.indices.len())?;
            let time = Tensor::ones(shard.indices.len(), x.dtype(), x.device())?;
            (model.forward(&x, &time)? - &x)?.sqr()?.mean_all()
        };
        Trainer::new(&params, options, &streams, 2 * batch, None)?.run(loss, |_| Ok(0.0), |_| Ok(()))?;
        let mut bits = vec![];
        for tensor in params.snapshot()?.values() {
            bits.extend(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
        }
        Ok(bits)
    })
}
