//! The trainer on a small regression: it learns, stops on NaN, and goes on from a checkpoint bit for bit.

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use candle_nn::{Module, linear};
use elucidate_core::checkpoint::{Checkpoint, previous};
use elucidate_core::history::{EpochRecord, TrainOptions};
use elucidate_core::params::{Params, Tensors, frozen};
use elucidate_core::rng::Streams;
use elucidate_core::train::{Checkpoints, Event, Shard, TrainError, Trainer};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

const EXAMPLES: usize = 50;
/// Four epochs of four steps, of which each one's last is smaller.
const STEPS: usize = 16;

fn options() -> TrainOptions {
    TrainOptions { epochs: 4, batch_size: 16, shard_size: 5, max_lr: 0.05, adam_eps: 1e-5, ema_decay: 0.9 }
}

fn net(x: &Tensor, vb: candle_nn::VarBuilder) -> candle_core::Result<Tensor> {
    linear(16, 1, vb.pp("b"))?.forward(&linear(3, 16, vb.pp("a"))?.forward(x)?.relu()?)
}

/// Examples (x, |x|) and noise on them by place in the run, so that both order and streams matter.
fn batch(streams: &Streams, numbers: &[u64], positions: &[u64]) -> candle_core::Result<(Tensor, Tensor)> {
    let x = streams.normal_for("example", numbers, &[3], &Device::Cpu)?;
    let noise = streams.normal_for("noise", positions, &[1], &Device::Cpu)?;
    let y = (x.sqr()?.sum_keepdim(1)?.sqrt()? + (noise * 0.1)?)?;
    Ok((x, y))
}

/// A checkpoint at each epoch's end and at stops.
fn at(path: &Path) -> Option<Checkpoints> {
    Some(Checkpoints { path: path.to_path_buf(), every: Duration::MAX })
}

/// Trains until `stop` steps are done, and returns the average, the weights and the history.
fn run(
    checkpoints: Option<Checkpoints>,
    resume: bool,
    stop: usize,
) -> Result<(Tensors, Params, Vec<EpochRecord>)> {
    let streams = Streams::new(11);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| {
        net(&Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu)?, vb)
    })?;
    let mut trainer = Trainer::new(&params, options(), &streams, EXAMPLES, checkpoints)?;
    if resume {
        trainer = trainer.resume(&Device::Cpu)?;
    }
    let live =
        || -> Tensors { params.vars().iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect() };
    let loss = |shard: &Shard| {
        let numbers: Vec<u64> = shard.indices.iter().map(|&i| i as u64).collect();
        let positions: Vec<u64> = shard.positions.clone().collect();
        let (x, y) = batch(&streams, &numbers, &positions)?;
        (net(&x, frozen(&live(), &Device::Cpu))? - y)?.sqr()?.mean_all()
    };
    let evaluate = |weights: &Tensors| {
        let numbers: Vec<u64> = (1000..1200).collect();
        let (x, y) = batch(&streams, &numbers, &numbers)?;
        Ok(f64::from((net(&x, frozen(weights, &Device::Cpu))? - y)?.sqr()?.mean_all()?.to_scalar::<f32>()?))
    };
    let result = trainer.run(loss, evaluate, |event| match event {
        Event::Step(step) if step.step == stop && stop < STEPS => bail!("enough"),
        _ => Ok(()),
    });
    let history = trainer.history().to_vec();
    match result {
        Ok(average) => Ok((average, params, history)),
        Err(TrainError::Stopped { .. }) => Ok((Tensors::new(), params, history)),
        Err(error) => Err(error.into()),
    }
}

fn bits(tensors: &Tensors) -> Result<BTreeMap<String, Vec<u32>>> {
    let bits = |t: &Tensor| -> Result<Vec<u32>> {
        Ok(t.flatten_all()?.to_vec1::<f32>()?.iter().map(|v| v.to_bits()).collect())
    };
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), bits(tensor)?))).collect()
}

#[test]
fn training_lowers_the_loss() -> Result<()> {
    let (_, _, history) = run(None, false, STEPS)?;
    assert_eq!(history.len(), 4);
    assert!(history[3].test_loss < 0.5 * history[0].test_loss, "{history:?}");
    assert_eq!((history[3].step, history[3].images), (16, 200));
    Ok(())
}

fn losses(history: &[EpochRecord]) -> Vec<(usize, u64, u64)> {
    history.iter().map(|e| (e.epoch, e.train_loss.to_bits(), e.test_loss.to_bits())).collect()
}

#[test]
fn a_training_stopped_after_any_step_and_resumed_ends_bit_for_bit_as_one_that_was_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (average, params, history) = run(None, false, STEPS)?;
    for stop in 1..STEPS {
        let file = dir.path().join(format!("{stop}/last.safetensors"));
        run(at(&file), false, stop)?;
        let (resumed_average, resumed_params, resumed_history) = run(at(&file), true, STEPS)?;
        assert_eq!(bits(&average)?, bits(&resumed_average)?, "stopped after step {stop}");
        assert_eq!(bits(&params.snapshot()?)?, bits(&resumed_params.snapshot()?)?);
        assert_eq!(losses(&history), losses(&resumed_history));
    }
    Ok(())
}

#[test]
fn a_training_stopped_in_an_evaluation_goes_on_with_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("last.safetensors");
    let streams = Streams::new(1);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| linear(1, 1, vb))?;
    let weight = params.vars()["weight"].as_tensor().clone();
    let train = |fails: bool| {
        let trainer = Trainer::new(&params, options(), &streams, EXAMPLES, at(&file))?;
        let mut trainer = trainer.resume(&Device::Cpu)?;
        let steps = trainer.steps();
        let evaluate = |_: &Tensors| if fails { candle_core::bail!("stop") } else { Ok(0.5) };
        let result = trainer.run(|_| weight.sqr()?.mean_all(), evaluate, |_| Ok(()));
        result.map(|_| (steps, trainer.history().to_vec()))
    };
    train(true).expect_err("the evaluation fails");
    let state = Checkpoint::read(&file, &Device::Cpu)?;
    assert_eq!((state.adam.step, state.history.len()), (4, 0));
    let (steps, history) = train(false)?;
    assert_eq!((steps, history.len()), (4, 4));
    assert!(history[0].train_loss > history[3].train_loss);
    Ok(())
}

#[test]
fn the_last_two_checkpoints_are_kept_and_the_earlier_one_stands_in() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("last.safetensors");
    let (average, ..) = run(None, false, STEPS)?;
    let every_step = || Some(Checkpoints { path: file.clone(), every: Duration::ZERO });
    let step = |path: &Path| -> Result<usize> { Ok(Checkpoint::read(path, &Device::Cpu)?.adam.step) };
    // Where there is none yet, a training begins at the beginning.
    run(every_step(), true, 7)?;
    assert_eq!((step(&file)?, step(&previous(&file))?), (7, 6));
    let resumed = || -> Result<()> {
        let (resumed, ..) = run(every_step(), true, STEPS)?;
        assert_eq!(bits(&average)?, bits(&resumed)?);
        Ok(())
    };
    for damage in [&b""[..], b"not a checkpoint"] {
        run(every_step(), false, 7)?;
        std::fs::write(&file, damage)?;
        resumed()?;
    }
    // Killed between the two renames.
    run(every_step(), false, 7)?;
    std::fs::remove_file(&file)?;
    resumed()?;
    std::fs::write(&file, "damaged")?;
    std::fs::write(previous(&file), "damaged too")?;
    let error = run(every_step(), true, STEPS).expect_err("there is nothing to go on from");
    assert!(format!("{error:#}").contains("last.safetensors is damaged"), "{error:#}");
    Ok(())
}

#[test]
fn checkpoints_of_the_first_version_are_read_and_newer_ones_refused_by_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("last.safetensors");
    let (average, ..) = run(None, false, STEPS)?;
    // The file of a training that an epoch's end stopped: what version 1 wrote, but for the name and a field.
    run(at(&file), false, 5)?;
    let whole = std::fs::read(previous(&file))?;
    let renamed = |version: &str| -> Result<()> {
        let mut bytes = whole.clone();
        let name = b"elucidate_checkpoint_2";
        let place = bytes.windows(name.len()).position(|part| part == name).context("the name")?;
        bytes[place + name.len() - 1..place + name.len()].copy_from_slice(version.as_bytes());
        let field = br#"\"so_far\""#;
        let place = bytes.windows(field.len()).position(|part| part == field).context("the field")?;
        bytes[place + 2] = b'x';
        std::fs::remove_file(previous(&file)).ok();
        Ok(std::fs::write(&file, bytes)?)
    };
    renamed("1")?;
    assert_eq!(bits(&average)?, bits(&run(at(&file), true, STEPS)?.0)?);
    renamed("3")?;
    let error = run(at(&file), true, STEPS).expect_err("version 3 is not known");
    assert!(format!("{error:#}").contains("checkpoint version 3; this program knows up to 2"), "{error:#}");
    Ok(())
}

#[test]
fn each_example_comes_once_an_epoch_and_each_position_once_a_run() -> Result<()> {
    let streams = Streams::new(1);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| linear(1, 1, vb))?;
    let seen = Mutex::new(vec![]);
    let mut trainer = Trainer::new(&params, options(), &streams, EXAMPLES, None)?;
    let weight = params.vars()["weight"].as_tensor().clone();
    trainer.run(
        |shard| {
            let mut seen = seen.lock().expect("no shard panics");
            seen.extend(shard.positions.clone().zip(shard.indices.iter().copied()));
            weight.sqr()?.mean_all()
        },
        |_| Ok(0.0),
        |_| Ok(()),
    )?;
    let mut seen = seen.into_inner()?;
    seen.sort_unstable();
    assert!(seen.iter().enumerate().all(|(i, &(position, _))| position == i as u64));
    let epochs: Vec<Vec<usize>> =
        seen.chunks(EXAMPLES).map(|epoch| epoch.iter().map(|&(_, index)| index).collect()).collect();
    assert_eq!(epochs.len(), 4);
    assert_ne!(epochs[0], epochs[1]);
    for mut epoch in epochs {
        epoch.sort_unstable();
        assert_eq!(epoch, (0..EXAMPLES).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_training_and_keeps_the_checkpoint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("last.safetensors");
    let streams = Streams::new(1);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| linear(1, 1, vb))?;
    let mut trainer = Trainer::new(&params, options(), &streams, EXAMPLES, at(&file))?;
    let weight = params.vars()["weight"].as_tensor().clone();
    let error = trainer
        .run(
            |shard| match shard.positions.start {
                60.. => weight.affine(0.0, f64::NAN)?.mean_all(),
                _ => weight.sqr()?.mean_all(),
            },
            |_| Ok(0.0),
            |_| Ok(()),
        )
        .expect_err("the second epoch's loss is NaN");
    let message = error.to_string();
    assert!(matches!(error, TrainError::NotFinite { epoch: 2, step: 5, .. }), "{message}");
    assert!(message.contains("last.safetensors") && message.contains("--lr"), "{message}");
    Checkpoint::read(&file, &Device::Cpu)?;
    Ok(())
}

#[test]
fn weights_spoilt_by_an_epochs_last_step_do_not_become_a_checkpoint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("last.safetensors");
    let streams = Streams::new(1);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| linear(1, 1, vb))?;
    let mut trainer = Trainer::new(&params, options(), &streams, EXAMPLES, at(&file))?;
    let weight = params.vars()["weight"].as_tensor().clone();
    // The root's slope at 0 is infinite, though its value is not: only the next loss would tell.
    let loss = |shard: &Shard| match shard.positions.start {
        98.. => (&weight - &weight)?.abs()?.sqrt()?.mean_all(),
        _ => weight.sqr()?.mean_all(),
    };
    let evaluate = |weights: &Tensors| Ok(f64::from(weights["weight"].mean_all()?.to_scalar::<f32>()?));
    let error = trainer.run(loss, evaluate, |_| Ok(())).expect_err("the second epoch ends in NaN weights");
    assert!(matches!(error, TrainError::NotFinite { epoch: 2, step: 8, .. }), "{error}");
    assert_eq!(Checkpoint::read(&file, &Device::Cpu)?.history.len(), 1);
    // Neither do they where a step is followed by a checkpoint at once.
    let every_step = Some(Checkpoints { path: file.clone(), every: Duration::ZERO });
    let mut trainer =
        Trainer::new(&params, options(), &streams, EXAMPLES, every_step)?.resume(&Device::Cpu)?;
    let error = trainer.run(loss, evaluate, |_| Ok(())).expect_err("the second epoch ends in NaN weights");
    assert!(error.to_string().contains("parameter weight has values that are not finite"), "{error}");
    assert_eq!(Checkpoint::read(&file, &Device::Cpu)?.adam.step, 7);
    Ok(())
}

#[test]
fn checkpoints_of_another_training_or_damaged_ones_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("last.safetensors");
    run(at(&file), false, 3)?;
    let streams = Streams::new(11);
    let refusal = |options: TrainOptions, streams: &Streams, examples, inputs| -> Result<String> {
        let (_, params) = Params::init(streams, &Device::Cpu, |vb| {
            linear(inputs, 16, vb.pp("a"))?;
            linear(16, 1, vb.pp("b"))
        })?;
        match Trainer::new(&params, options, streams, examples, at(&file))?.resume(&Device::Cpu) {
            Ok(_) => Ok(String::new()),
            Err(error) => Ok(error.to_string()),
        }
    };
    assert_eq!(refusal(options(), &streams, EXAMPLES, 3)?, "");
    assert!(
        refusal(TrainOptions { epochs: 5, ..options() }, &streams, EXAMPLES, 3)?
            .contains("options are epochs 4 (asked for: 5)")
    );
    assert!(refusal(options(), &Streams::new(12), EXAMPLES, 3)?.contains("seed"));
    assert!(refusal(options(), &streams, 51, 3)?.contains("51"));
    assert!(refusal(options(), &streams, EXAMPLES, 4)?.contains("a.weight has shape"));
    let whole = std::fs::read(&file)?;
    for length in [0, 8, 200, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..length])?;
        let message = refusal(options(), &streams, EXAMPLES, 3)?;
        assert!(message.contains("last.safetensors") && message.contains("damaged"), "{length}: {message}");
    }
    Ok(())
}
