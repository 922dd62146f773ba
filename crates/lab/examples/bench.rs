//! Times whole training steps, or forward passes as sampling makes them, of a preset's UNet: `just bench`.

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use clap::{Parser, ValueEnum};
use elucidate_core::data::IMAGE;
use elucidate_core::history::TrainOptions;
use elucidate_core::params::{Params, frozen};
use elucidate_core::rng::Streams;
use elucidate_core::train::{Event, Shard, Trainer};
use elucidate_core::unet::UNet2DModel;
use elucidate_kernels::{Vectors, limit_vectors};
use elucidate_lab::evaluate::draw::{Batches, draw};
use elucidate_lab::run::options::{RunOptions, Settings, TrainingSettings};
use elucidate_lab::train::recipe::shard_on_cpu;
use elucidate_samplers::{Euler, Preconditioned, Setting};
use elucidate_schedules::{NoiseInput, Preconditioning};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::Subscriber;
use tracing::span::Id;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times whole training steps, or forward passes as sampling makes them, on random images, and prints one line: images a
/// second, and the memory that the process holds after its first steps and in the end.
///
/// Of the experiments' options those count that make the network and the batch, --device, --threads and --candle-ops.
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
    /// Print the network's settings as JSON, and time nothing
    #[arg(long)]
    settings: bool,
    /// The widest vectors to compute with, to see what a processor without wider ones would do
    #[arg(long, value_enum, default_value_t = Width::Widest)]
    vectors: Width,
    /// Compute on one thread, and print each kernel's share of the time too
    #[arg(long)]
    shares: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "lowercase")]
enum Work {
    Train,
    Sample,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "lowercase")]
enum Width {
    Widest,
    Avx2,
}

/// Steps that nothing is measured in: buffers are made, caches filled.
const WARM_UP: usize = 2;

fn main() -> Result<()> {
    let options = Options::parse();
    let settings = Settings::resolve(&options.run, false, |_| ())?;
    if options.settings {
        println!("{}", serde_json::to_string(&settings)?);
        return Ok(());
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    // On more threads one kernel's work would be done while another waits for its own.
    let threads = if options.shares { 1 } else { options.run.threads.unwrap_or_else(cores) };
    elucidate_kernels::set_up(threads)?;
    elucidate_kernels::force_candle_ops(options.run.candle_ops);
    if options.vectors == Width::Avx2 {
        limit_vectors(Vectors::Avx2);
    }
    let clock = Clock::default();
    if options.shares {
        tracing_subscriber::registry().with(clock.clone()).init();
    }
    let device = options.run.device.open()?;
    let Measured { images, seconds, memory } = match options.work {
        Work::Train => train(&settings, &device, options.seconds, &clock)?,
        Work::Sample => sample(&settings, &device, options.seconds, &clock)?,
    };
    let (TrainingSettings { blocks, batch_size, .. }, work) = (settings.training, options.work);
    let on = if device.is_cpu() { format!("{threads} threads") } else { "CUDA".to_string() };
    println!(
        "{work:?}, UNet {blocks:?}, batch {batch_size}, {on}: {:.1} images/s, {} MiB, {} MiB in the end",
        images as f64 / seconds,
        memory >> 20,
        memory_held()? >> 20
    );
    if options.shares {
        clock.print(seconds);
    }
    Ok(())
}

/// What was done in how many seconds, and the memory held, in bytes, after the first steps.
struct Measured {
    images: usize,
    seconds: f64,
    memory: u64,
}

/// Bytes of memory that this process holds.
fn memory_held() -> Result<u64> {
    let pid = sysinfo::get_current_pid().map_err(anyhow::Error::msg)?;
    let mut system = sysinfo::System::new();
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), true);
    Ok(system.process(pid).context("this process is not in the list of processes")?.memory())
}

/// The time spent in each span, by its name.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<BTreeMap<&'static str, Duration>>>);

impl Clock {
    fn reset(&self) {
        self.0.lock().expect("no thread panicked").clear();
    }

    /// Prints shares of so many seconds, the largest first.
    fn print(&self, seconds: f64) {
        let times = self.0.lock().expect("no thread panicked");
        let rest = seconds - times.values().map(Duration::as_secs_f64).sum::<f64>();
        let mut shares: Vec<_> = times.iter().map(|(name, time)| (*name, time.as_secs_f64())).collect();
        shares.push(("all else: sums, joins, copies", rest));
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (name, time) in shares {
            println!("  {:5.1} %  {name}", 100.0 * time / seconds);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Clock {
    fn on_enter(&self, id: &Id, context: LayerContext<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(Instant::now());
        }
    }

    fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(start) = span.extensions().get::<Instant>() {
            *self.0.lock().expect("no thread panicked").entry(span.name()).or_default() += start.elapsed();
        }
    }
}

/// Whole steps: batch, forward, backward, Adam, average.
fn train(settings: &Settings, device: &Device, seconds: f64, clock: &Clock) -> Result<Measured> {
    let streams = Streams::new(1);
    let config = settings.training.unet();
    let (model, params) = Params::init(&streams, device, |vb| UNet2DModel::new(&config, vb))?;
    let size = settings.training.batch_size;
    let recipe = TrainOptions {
        epochs: 1,
        batch_size: size,
        shard_size: if device.is_cpu() { shard_on_cpu(size) } else { size },
        max_lr: 1e-4,
        adam_eps: 1e-5,
        ema_decay: 0.99,
    };
    let images = streams.normal_images("images", 0..size as u64, &IMAGE, device)?;
    // More steps than there is time for: the clock stops the training.
    let mut trainer = Trainer::new(&params, recipe, &streams, size * 10_000, None)?;
    let mut start = Instant::now();
    let mut memory = 0;
    let mut measured = None;
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
                memory = memory_held()?;
                clock.reset();
                start = Instant::now();
            }
            let (images, elapsed) = (step.step.saturating_sub(WARM_UP) * size, start.elapsed().as_secs_f64());
            if images > 0 && elapsed > seconds {
                measured = Some(Measured { images, seconds: elapsed, memory });
                bail!("measured");
            }
            Ok(())
        },
    );
    if measured.is_none() {
        stopped?;
    }
    measured.context("the training ended before the time was up")
}

/// Network evaluations of `draw`, as sampling uses it.
fn sample(settings: &Settings, device: &Device, seconds: f64, clock: &Clock) -> Result<Measured> {
    let streams = Streams::new(1);
    let config = settings.training.unet();
    let (_, params) = Params::init(&streams, device, |vb| UNet2DModel::new(&config, vb))?;
    let model = UNet2DModel::new(&config, frozen(&params.snapshot()?, device))?;
    let preconditioning = Preconditioning::edm(0.66, NoiseInput::Sigma);
    let denoiser = Preconditioned::new(|x: &Tensor, time: &Tensor| model.forward(x, time), preconditioning);
    let setting = Setting::notebook(Euler::default(), 2);
    let round = || -> Result<usize> {
        let n = 2 * settings.training.batch_size;
        let batches = Batches::new(device, None);
        let drawn = draw(&denoiser, &setting, &streams, n, &batches, &|_| ())?;
        Ok(n * drawn.nfe)
    };
    round()?;
    let memory = memory_held()?;
    clock.reset();
    let start = Instant::now();
    let mut images = 0;
    while start.elapsed().as_secs_f64() < seconds {
        images += round()?;
    }
    Ok(Measured { images, seconds: start.elapsed().as_secs_f64(), memory })
}
