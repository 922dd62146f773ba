//! Files from outside that are damaged or meant ill: read rightly or refused in one line that names them, without a panic and
//! without more memory than a small multiple of the file. `ELUCIDATE_FUZZ_CASES=5000 cargo test …` tries more of them.

#[path = "../../../tests/common/mutations.rs"]
mod mutations;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use elucidate_core::checkpoint::Checkpoint;
use elucidate_core::data::FashionMnist;
use elucidate_core::files::{parameters, read_tensors};
use elucidate_core::history::TrainOptions;
use elucidate_core::params::Params;
use elucidate_core::rng::Streams;
use elucidate_core::train::{Checkpoints, Trainer};
use elucidate_core::unet::{WEIGHTS, load_model};
use flate2::Compression;
use flate2::write::GzEncoder;
use mutations::try_mutations;
use peak_alloc::PeakAlloc;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The counter is the whole program's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether `read` succeeded. Where not, its error must be one line that names `file`; and it may take 32 bytes for each byte
/// of the files, and 4 MiB.
fn outcome<T>(bytes: usize, file: &str, read: impl FnOnce() -> Result<T>) -> Result<bool> {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = read();
    let grown = MEMORY.peak_usage().saturating_sub(before);
    ensure!(grown <= 32 * bytes + (4 << 20), "{grown} bytes of memory for {bytes} of {file}");
    let Err(error) = result else { return Ok(true) };
    let causes: Vec<String> =
        error.chain().map(|cause| cause.to_string().lines().next().unwrap_or_default().to_string()).collect();
    ensure!(causes.join(": ").contains(file), "{file} is not named: {causes:?}");
    Ok(false)
}

fn fixture(name: &str, file: &str) -> Result<(PathBuf, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/unet").join(name).join(file);
    let bytes = fs::read(&path)?;
    Ok((path, bytes))
}

/// The header of a safetensors file, and what comes behind it.
fn parts(file: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = file.split_first_chunk().context("a length")?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length))?).context("a header")
}

/// A safetensors file with this header, told its right length.
fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Tries mutations of a whole safetensors file, and of its header with a length that is right.
fn try_safetensors(
    reader: &str,
    cases: u32,
    whole: &[u8],
    read: impl Fn(&[u8]) -> Result<bool>,
) -> Result<()> {
    let (header, data) = parts(whole)?;
    let files = [("any byte", whole), ("header", header)].map(|(what, bytes)| (what.into(), bytes.to_vec()));
    try_mutations(reader, cases, &files, |what, bytes| match what == Path::new("header") {
        true => read(&with_header(bytes, data)),
        false => read(bytes),
    })
}

#[test]
fn damaged_model_folders_are_refused_or_read() -> Result<()> {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir()?;
    for name in ["mixed_levels", "one_level"] {
        let (_, whole) = fixture(name, WEIGHTS)?;
        let config = fixture(name, "config.json")?;
        fs::write(dir.path().join("config.json"), &config.1)?;
        let load =
            |bytes: usize, file: &str| outcome(bytes + 4096, file, || load_model(dir.path(), &Device::Cpu));
        try_safetensors("weights", 300, &whole, |bytes| {
            fs::write(dir.path().join(WEIGHTS), bytes)?;
            load(bytes.len(), WEIGHTS)
        })?;
        fs::write(dir.path().join(WEIGHTS), &whole)?;
        try_mutations("config.json", 200, &[config], |_, bytes| {
            fs::write(dir.path().join("config.json"), bytes)?;
            // Of a configuration that is one but not that of the weights, both are named.
            load(whole.len(), "config.json")
        })?;
    }
    Ok(())
}

#[test]
fn damaged_checkpoints_are_refused_or_read() -> Result<()> {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("last.safetensors");
    let streams = Streams::new(1);
    let (_, params) = Params::init(&streams, &Device::Cpu, |vb| candle_nn::linear(3, 2, vb))?;
    let options =
        TrainOptions { epochs: 2, batch_size: 4, shard_size: 4, max_lr: 0.1, adam_eps: 1e-5, ema_decay: 0.9 };
    let trainer = || {
        let checkpoints = Checkpoints { path: path.clone(), every: Duration::ZERO };
        Trainer::new(&params, options.clone(), &streams, 10, Some(checkpoints))
    };
    let weight = params.vars()["weight"].as_tensor().clone();
    let train = |mut trainer: Trainer| -> Result<()> {
        trainer.run(|_| weight.sqr()?.mean_all(), |_| Ok(0.5), |_| Ok(()))?;
        Ok(())
    };
    train(trainer()?)?;
    let whole = fs::read(&path)?;
    fs::remove_file(dir.path().join("last.previous.safetensors"))?;
    // What is read must also be gone on with, or refused.
    try_safetensors("checkpoint", 600, &whole, |bytes| {
        fs::write(&path, bytes)?;
        outcome(bytes.len(), "last.safetensors", || {
            Checkpoint::read(&path, &Device::Cpu)?;
            train(trainer()?.resume(&Device::Cpu)?)
        })
    })
}

#[test]
fn damaged_idx_files_are_refused() -> Result<()> {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir()?;
    let data = FashionMnist::load(None)?;
    let header = [2051u32, 60_000, 28, 28].map(u32::to_be_bytes).concat();
    let plain = [header.as_slice(), &data.train.images[..100_000]].concat();
    let mut packed = GzEncoder::new(vec![], Compression::fast());
    packed.write_all(&plain)?;
    for (name, whole) in
        [("train-images-idx3-ubyte", plain), ("train-images-idx3-ubyte.gz", packed.finish()?)]
    {
        let files = [(PathBuf::from(name), whole)];
        // Its SHA-256 refuses all of them.
        let none_is_read = try_mutations(name, 200, &files, |_, bytes| {
            fs::write(dir.path().join(name), bytes)?;
            let read = || Ok(FashionMnist::load(Some(dir.path()))?);
            outcome(bytes.len(), "train-images-idx3-ubyte", read)
        });
        let none_is_read = none_is_read.expect_err("a part of the data is not the data").to_string();
        ensure!(none_is_read.contains(": 0 of "), "{none_is_read}");
        fs::remove_file(dir.path().join(name))?;
    }
    Ok(())
}

#[test]
fn headers_that_lie_are_refused() -> Result<()> {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("tensors.safetensors");
    let tensor = |dtype: &str, shape: &[u64], offsets: (u64, u64)| json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
    let eighth = 1 << 61;
    let mut wrapping = serde_json::Map::new();
    // Eight tensors of 2⁶¹ − 1 bytes and one of what makes the sum of all and of the header a small one again.
    for i in 0..8u64 {
        wrapping
            .insert(format!("t{i}"), tensor("U8", &[eighth - 1], (i * (eighth - 1), (i + 1) * (eighth - 1))));
    }
    wrapping.insert("t8".into(), tensor("U8", &[8], (8 * (eighth - 1), u64::MAX)));
    let files = [
        ("a length beyond the file", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("a long header", [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat()),
        ("no header", b"1234567".to_vec()),
        (
            "a tensor beyond the file",
            with_header(
                json!({ "x": tensor("F32", &[1 << 40], (0, 1 << 42)) }).to_string().as_bytes(),
                &[0; 8],
            ),
        ),
        (
            "a shape of another size",
            with_header(json!({ "x": tensor("F32", &[3], (0, 8)) }).to_string().as_bytes(), &[0; 8]),
        ),
        (
            "a shape that overflows",
            with_header(
                json!({ "x": tensor("F32", &[1 << 33, 1 << 33], (0, 8)) }).to_string().as_bytes(),
                &[0; 8],
            ),
        ),
        ("sizes that wrap round", with_header(json!(wrapping).to_string().as_bytes(), &[])),
        (
            "offsets that go back",
            with_header(json!({ "x": tensor("F32", &[2], (8, 0)) }).to_string().as_bytes(), &[0; 8]),
        ),
        (
            "an unknown type",
            with_header(json!({ "x": tensor("F7", &[2], (0, 8)) }).to_string().as_bytes(), &[0; 8]),
        ),
        ("deep nesting", with_header("[".repeat(100_000).as_bytes(), &[])),
    ];
    for (what, bytes) in files {
        fs::write(&path, &bytes)?;
        let read = outcome(bytes.len(), "tensors.safetensors", || read_tensors(&path, &Device::Cpu));
        assert!(!read.context(what)?, "{what} is read");
    }
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let tensor = Tensor::new(&[0f32, value], &Device::Cpu)?;
        let error = parameters([("w".to_string(), tensor)].into()).expect_err("it is not finite");
        assert_eq!(error.to_string(), "parameter w has values that are not finite");
    }
    Ok(())
}

#[test]
fn configurations_that_lie_are_refused() -> Result<()> {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir()?;
    let (path, config) = fixture("mixed_levels", "config.json")?;
    fs::copy(path.with_file_name(WEIGHTS), dir.path().join(WEIGHTS))?;
    let config: serde_json::Value = serde_json::from_slice(&config)?;
    for (key, value) in [
        ("layers_per_block", json!(1u64 << 40)),
        ("layers_per_block", json!(u64::MAX)),
        ("block_out_channels", json!([1u64 << 40, 1u64 << 41, 1u64 << 42])),
        ("in_channels", json!(u64::MAX)),
        ("norm_num_groups", json!(0)),
        ("attention_head_dim", json!(1u64 << 50)),
        ("freq_shift", json!(1e308)),
        ("norm_eps", json!(-1.0)),
        ("mid_block_scale_factor", json!(0.0)),
        ("down_block_types", json!([])),
        ("block_out_channels", json!("../../x")),
    ] {
        let mut lying = config.clone();
        lying[key] = value.clone();
        fs::write(dir.path().join("config.json"), lying.to_string())?;
        let read = outcome(200_000, "config.json", || load_model(dir.path(), &Device::Cpu));
        assert!(!read.with_context(|| format!("{key} {value}"))?, "{key} {value} is read");
    }
    Ok(())
}

#[test]
fn links_to_files_are_followed_and_what_is_no_file_is_refused_at_once() -> Result<()> {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir()?;
    let (config, _) = fixture("mixed_levels", "config.json")?;
    let weights = config.with_file_name(WEIGHTS);
    let load = |folder: &Path| outcome(200_000, WEIGHTS, || load_model(folder, &Device::Cpu));
    // As the Hugging Face hub's cache has it: a folder of links, by paths that lead up and down again.
    let links = dir.path().join("links");
    fs::create_dir_all(links.join("below"))?;
    symlink(config, links.join("config.json"))?;
    symlink(&weights, links.join(WEIGHTS))?;
    assert!(load(&links)?);
    assert!(load(&links.join("below/.."))?);
    for to in ["/dev/zero", "nowhere", WEIGHTS, "below", "pipe"] {
        fs::remove_file(links.join(WEIGHTS))?;
        if to == "pipe" {
            let status = std::process::Command::new("mkfifo").arg(links.join(to)).status()?;
            ensure!(status.success());
        }
        symlink(to, links.join(WEIGHTS))?;
        assert!(!load(&links)?, "{to} is read");
    }
    fs::remove_file(links.join(WEIGHTS))?;
    fs::rename(links.join("pipe"), links.join("train-images-idx3-ubyte"))?;
    assert!(!outcome(0, "train-images-idx3-ubyte", || Ok(FashionMnist::load(Some(&links))?))?);
    Ok(())
}
