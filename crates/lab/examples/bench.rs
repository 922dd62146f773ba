//! Times whole training steps, or forward passes as sampling makes them, of a preset's UNet: `just bench`.

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use clap::{Parser, ValueEnum};
use elucidate_core::params::{Params, frozen};
use elucidate_core::rng::Streams;
use elucidate_core::train::{Event, Shard, TrainOptions, Trainer};
use elucidate_core::unet::UNet2DModel;
use elucidate_lab::options::{RunOptions, Settings};
use elucidate_lab::sampling::{Setting, draw};
use elucidate_lab::training::SHARD_CPU;
use elucidate_samplers::Sampler;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times whole training steps, or forward passes as sampling makes them, on random images, and prints one line.
///
/// Of the experiments' options those count that make the network and the batch, --threads and --candle-ops.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    run: RunOptions,
    /// What to time
    #[arg(long, value_enum, default_value_t = Work::Train)]
    work: Work,
    /// How long to measure, after the first steps
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "lowercase")]
enum Work {
    Train,
    Sample,
}

const IMAGE: [usize; 3] = [1, 32, 32];
/// Steps that nothing is measured in: buffers are made, caches filled.
const WARM_UP: usize = 2;

fn main() -> Result<()> {
    let options = Options::parse();
    let settings = Settings::resolve(&options.run, false, 1e-2)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.run.threads.unwrap_or_else(cores);
    elucidate_kernels::set_up(threads)?;
    elucidate_kernels::force_candle_ops(options.run.candle_ops);
    let rate = match options.work {
        Work::Train => train(&settings, options.seconds)?,
        Work::Sample => sample(&settings, options.seconds)?,
    };
    let (Settings { blocks, batch_size, .. }, work) = (settings, options.work);
    println!("{work:?}, UNet {blocks:?}, batch {batch_size}, {threads} threads: {rate:.1} images/s");
    Ok(())
}

/// Images a second of whole steps: batch, forward, backward, Adam, average.
fn train(settings: &Settings, seconds: f64) -> Result<f64> {
    let streams = Streams::new(1);
    let config = settings.unet();
    let (model, params) = Params::init(&streams, &Device::Cpu, |vb| UNet2DModel::new(&config, vb))?;
    let size = settings.batch_size;
    let recipe = TrainOptions {
        epochs: 1,
        batch_size: size,
        shard_size: SHARD_CPU,
        max_lr: 1e-4,
        adam_eps: 1e-5,
        ema_decay: 0.99,
    };
    let images = streams.normal_images("images", 0..size as u64, &IMAGE, &Device::Cpu)?;
    // More steps than there is time for: the clock stops the training.
    let mut trainer = Trainer::new(&params, recipe, &streams, size * 10_000, None)?;
    let mut start = Instant::now();
    let mut rate = None;
    let stopped = trainer.run(
        |shard: &Shard| {
            let first = shard.positions.start as usize % size;
            let x = images.narrow(0, first, shard.indices.len())?;
            let time = Tensor::ones(shard.indices.len(), x.dtype(), x.device())?;
            (model.forward(&x, &time)? - &x)?.sqr()?.mean_all()
        },
        |_| Ok(0.0),
        |event| {
            let Event::Step(step) = event else { return Ok(()) };
            if step.step == WARM_UP {
                start = Instant::now();
            }
            let measured = step.step.saturating_sub(WARM_UP);
            if measured > 0 && start.elapsed() > Duration::from_secs_f64(seconds) {
                rate = Some((measured * size) as f64 / start.elapsed().as_secs_f64());
                bail!("measured");
            }
            Ok(())
        },
    );
    if rate.is_none() {
        stopped?;
    }
    rate.context("the training ended before the time was up")
}

/// Network evaluations a second of `draw`, as sampling uses it.
fn sample(settings: &Settings, seconds: f64) -> Result<f64> {
    let streams = Streams::new(1);
    let config = settings.unet();
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| UNet2DModel::new(&config, vb))?;
    let model = UNet2DModel::new(&config, frozen(&params.snapshot()?, &Device::Cpu))?;
    let denoiser = |x: &Tensor, sigma: &Tensor| model.forward(x, sigma);
    let setting = Setting { sampler: Sampler::Euler, steps: 2, rho: 7.0, sigma_min: 0.01, sigma_max: 80.0 };
    let round = || -> Result<usize> {
        let n = 8 * SHARD_CPU;
        draw(&denoiser, &setting, &streams, n, IMAGE, &Device::Cpu, &|_| ())?;
        Ok(n * setting.nfe())
    };
    round()?;
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed().as_secs_f64() < seconds {
        done += round()?;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}
