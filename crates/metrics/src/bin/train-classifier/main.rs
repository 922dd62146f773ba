//! Trains the classifier whose features score the samples, and writes its weights in half precision.

mod augment;

/// Gives pages back late: a training step allocates the same large tensors again and again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use anyhow::{Context, Result, anyhow, ensure};
use atomic_write_file::AtomicWriteFile;
use augment::{Eraser, PIXELS, augment};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ModuleT;
use candle_nn::loss::cross_entropy;
use clap::Parser;
use elucidate_core::checkpoint::{CheckpointError, previous};
use elucidate_core::data::{FashionMnist, PixelRange, Split};
use elucidate_core::device::DeviceChoice;
use elucidate_core::files;
use elucidate_core::history::TrainOptions;
use elucidate_core::params::{Params, Tensors, frozen};
use elucidate_core::residual::ResidualClassifier;
use elucidate_core::rng::Streams;
use elucidate_core::train::{Checkpoints, Event, Shard, TrainError, Trainer};
use elucidate_metrics::WEIGHTS;
use rayon::prelude::*;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tracing::info;

/// Trains the classifier whose features score the samples.
///
/// One-cycle Adam on images that are shifted by up to a pixel, flipped, and have patches erased or copied over others. The
/// same command goes on with a training that was stopped, from the checkpoint beside FILE.
#[derive(Parser)]
struct Options {
    /// Passes over the training images
    #[arg(long, default_value_t = 8)]
    epochs: usize,
    /// Images in a training step
    #[arg(long, default_value_t = 256)]
    batch_size: usize,
    /// Peak learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 1e-2)]
    lr: f64,
    /// Seed of the first weights, the data's order and the augmentation
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Train on the first N images only
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    train_images: usize,
    /// Test on the first N test images only
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    test_images: usize,
    /// Where to compute: cpu, cuda or auto
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads on the CPU [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// A folder with the four IDX files of Fashion-MNIST, plain or gzipped
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to write the weights
    #[arg(long, value_name = "FILE", default_value = WEIGHTS)]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    check(options)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    elucidate_kernels::set_up(options.threads.unwrap_or_else(cores))?;
    let (stderr, ansi) = (std::io::stderr, std::io::stderr().is_terminal());
    tracing_subscriber::fmt().with_target(false).with_writer(stderr).with_ansi(ansi).init();
    let unwritable = || format!("cannot write the weights to {}", options.out.display());
    // An hour's training shall not end in a folder that cannot be written.
    try_writing(&options.out).with_context(unwritable)?;
    let data = FashionMnist::load(options.data_dir.as_deref())?;
    let device = options.device.open()?;

    let weights = train(options, &data, &device)?;
    let half: Tensors =
        weights.iter().map(|(name, t)| Ok((name.clone(), t.to_dtype(DType::F16)?))).collect::<Result<_>>()?;
    let accuracy = accuracy(&half, &data.test, options.test_images, &device)?;
    info!("accuracy {accuracy:.4} on {} test images, weights in half precision", options.test_images);

    let metadata = serde_json::json!({
        "accuracy": accuracy,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "seed": options.seed,
        "train_images": options.train_images,
        "test_images": options.test_images,
        "data_sha256": data.sha256(),
    });
    write(&options.out, half, metadata.to_string()).with_context(unwritable)?;
    let checkpoint = checkpoint(&options.out);
    for done in [previous(&checkpoint), checkpoint] {
        std::fs::remove_file(done).ok();
    }
    info!("weights are in {}", options.out.display());
    Ok(())
}

fn check(options: &Options) -> Result<()> {
    let Options { epochs, batch_size, lr, train_images, test_images, .. } = options;
    ensure!(*epochs > 0, "--epochs 0 trains nothing: give at least 1");
    ensure!(lr.is_finite() && *lr > 0.0, "--lr {lr} is impossible: give a rate above 0");
    ensure!(
        (2..=60_000).contains(train_images),
        "--train-images {train_images} is impossible: give 2 to 60000"
    );
    ensure!((1..=10_000).contains(test_images), "--test-images {test_images} is impossible: give 1 to 10000");
    ensure!(
        *batch_size > 1 && train_images % batch_size != 1,
        "--batch-size {batch_size} leaves a batch of one image, which batch norm cannot normalise: give another"
    );
    Ok(())
}

/// The trained parameters.
fn train(options: &Options, data: &FashionMnist, device: &Device) -> Result<Tensors> {
    let &Options { epochs, batch_size, lr, seed, train_images, test_images, .. } = options;
    let streams = Streams::new(seed);
    let (model, params) = Params::init(&streams, device, |vb| ResidualClassifier::new(1, 10, vb))?;
    let recipe = TrainOptions {
        epochs,
        batch_size,
        // Batch norm looks across the whole batch.
        shard_size: batch_size,
        max_lr: lr,
        adam_eps: 1e-5,
        // No average: the last weights, as in the lesson.
        ema_decay: 0.0,
    };
    let checkpoints = Checkpoints { path: checkpoint(&options.out), every: Duration::from_secs(180) };
    let trainer = Trainer::new(&params, recipe, &streams, train_images, Some(checkpoints))?;
    let mut trainer = trainer.resume(device).map_err(|error| match error {
        TrainError::Checkpoint(CheckpointError::Other { .. }) => anyhow!("{error}; delete it to train anew"),
        error => error.into(),
    })?;
    if trainer.steps() > 0 {
        info!("going on after step {}", trainer.steps());
    }
    let weights = trainer.run(
        |shard| {
            let images = augmented(&data.train, shard, &streams)?.to_device(device)?;
            let labels = shard.indices.iter().map(|&i| u32::from(data.train.labels[i])).collect();
            let labels = Tensor::from_vec(labels, shard.indices.len(), device)?;
            cross_entropy(&model.forward_t(&images, true)?, &labels)
        },
        |weights| Ok(1.0 - accuracy(weights, &data.test, test_images, device)?),
        |event| {
            report(event);
            Ok(())
        },
    )?;
    Ok(weights)
}

fn report(event: Event) {
    match event {
        Event::Step(step) if step.step % 20 == 0 => info!(
            "epoch {} step {}/{} loss {:.4} lr {:.2e} {:.0} images/s",
            step.epoch, step.step, step.total_steps, step.loss, step.lr, step.images_per_second
        ),
        Event::Epoch { history, .. } => {
            if let Some(epoch) = history.last() {
                info!(
                    "epoch {} done: training loss {:.4}, test accuracy {:.4}, {:.0} s so far",
                    epoch.epoch,
                    epoch.train_loss,
                    1.0 - epoch.test_loss,
                    epoch.seconds
                );
            }
        }
        Event::Step(_) => {}
    }
}

/// A batch in [−1, 1], each image augmented from stream ("augmentation", its place in the run): (n, 1, 32, 32).
fn augmented(split: &Split, shard: &Shard, streams: &Streams) -> candle_core::Result<Tensor> {
    let batch = split.batch(shard.indices, PixelRange::SIGNED, &Device::Cpu)?;
    let mut pixels = batch.flatten_all()?.to_vec1::<f32>()?;
    if let Some(eraser) = Eraser::of(&pixels) {
        pixels.par_chunks_exact_mut(PIXELS).enumerate().for_each(|(i, image)| {
            augment(image, &eraser, &mut streams.stream("augmentation", shard.positions.start + i as u64));
        });
    }
    Tensor::from_vec(pixels, batch.shape(), &Device::Cpu)
}

/// The share of the first `n` images that the model with these parameters puts into the right class.
fn accuracy(weights: &Tensors, split: &Split, n: usize, device: &Device) -> candle_core::Result<f64> {
    const BATCH: usize = 250;
    let model = ResidualClassifier::new(1, 10, frozen(weights, device))?;
    let mut right = 0;
    for from in (0..n).step_by(BATCH) {
        let indices: Vec<usize> = (from..(from + BATCH).min(n)).collect();
        let images = split.batch(&indices, PixelRange::SIGNED, device)?;
        let found = model.forward_t(&images, false)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        right += found
            .iter()
            .zip(&split.labels[from..])
            .filter(|&(&found, &label)| found == u32::from(label))
            .count();
    }
    Ok(right as f64 / n as f64)
}

/// Where a training's checkpoint is kept until its weights are written.
fn checkpoint(out: &Path) -> PathBuf {
    out.with_extension("checkpoint.safetensors")
}

fn try_writing(path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(AtomicWriteFile::open(path)?.discard()?)
}

/// Writes a safetensors file. All of `training` is one entry of the metadata: several would be written in random order,
/// and the file's checksum would not be the same for the same weights.
fn write(path: &Path, weights: Tensors, training: String) -> Result<()> {
    let bytes = safetensors::serialize(weights, Some(HashMap::from([("training".to_string(), training)])))?;
    Ok(files::write(path, &bytes)?)
}
