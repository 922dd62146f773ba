//! Fashion-MNIST as it is read: whole, gzipped or plain, and refused where it is damaged. Needs the data: `just data`.

use anyhow::Result;
use candle_core::Device;
use elucidate_core::data::{DataError, FashionMnist, PixelRange};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

fn gzip(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = GzEncoder::new(File::create(dir.join(format!("{name}.gz")))?, Compression::fast());
    file.write_all(bytes)?;
    file.finish()?;
    Ok(())
}

/// Runs another of these tests, by itself, in the folder `dir` and with this FASHION_MNIST_DIR: whether it passes.
fn passes_with(variable: &str, dir: &Path) -> Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "the_pixels_standard_deviation_is_the_lessons"]);
    Ok(command.env("FASHION_MNIST_DIR", variable).current_dir(dir).output()?.status.success())
}

#[test]
fn an_empty_variable_is_as_none() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let below = dir.path().join("data/fashion-mnist");
    fs::create_dir_all(&below)?;
    FashionMnist::load(None)?.write_idx(&below)?;
    assert!(passes_with("", dir.path())?);
    assert!(!passes_with("nowhere", dir.path())?);
    Ok(())
}

/// The names of the data set's files.
const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

fn assert_loads(dir: &Path, data: &FashionMnist) -> Result<()> {
    let loaded = FashionMnist::load(Some(dir))?;
    for (loaded, split) in [(&loaded.train, &data.train), (&loaded.test, &data.test)] {
        assert!(loaded.images == split.images && loaded.labels == split.labels, "{}", dir.display());
    }
    Ok(())
}

#[test]
fn files_are_found_under_the_names_and_in_the_folders_that_people_have() -> Result<()> {
    let data = FashionMnist::load(None)?;
    let dir = tempfile::tempdir()?;
    let raw = dir.path().join("FashionMNIST/raw");
    fs::create_dir_all(&raw)?;
    data.write_idx(&raw)?;
    // torchvision's, by any of its three folders; a stray file above does not hide it.
    fs::write(dir.path().join(NAMES[0]), "stray")?;
    for folder in [dir.path(), &dir.path().join("FashionMNIST"), &raw] {
        assert_loads(folder, &data)?;
        assert_eq!(FashionMnist::load(Some(folder))?.source, raw.display().to_string());
    }
    for name in NAMES {
        fs::rename(raw.join(name), raw.join(name.replace("-idx", ".idx")))?;
    }
    assert_loads(&raw, &data)?;
    let dotted = "t10k-labels.idx1-ubyte";
    gzip(&raw, dotted, &fs::read(raw.join(dotted))?)?;
    fs::remove_file(raw.join(dotted))?;
    assert_loads(&raw, &data)?;
    gzip(&raw, dotted, b"damaged")?;
    let error = FashionMnist::load(Some(&raw)).expect_err("it is damaged").to_string();
    assert!(error.contains("t10k-labels.idx1-ubyte.gz"), "{error}");
    Ok(())
}

#[test]
fn every_gzip_is_unpacked() -> Result<()> {
    let data = FashionMnist::load(None)?;
    let dir = tempfile::tempdir()?;
    data.write_idx(dir.path())?;
    let (name, gz) = ("train-labels-idx1-ubyte", "train-labels-idx1-ubyte.gz");
    let whole = fs::read(dir.path().join(name))?;
    let packed = |bytes: &[u8]| -> Result<Vec<u8>> {
        gzip(dir.path(), name, bytes)?;
        Ok(fs::read(dir.path().join(gz))?)
    };
    let members = [packed(&whole[..100])?, packed(&[])?, packed(&whole[100..])?];
    let zeros = vec![0; 100_000];
    let [first, empty, last] = &members;
    for bytes in [
        members.concat(),
        [packed(&whole)?.as_slice(), &zeros].concat(),
        [first.as_slice(), &zeros, empty, last, &[0]].concat(),
    ] {
        fs::write(dir.path().join(gz), bytes)?;
        assert_loads(dir.path(), &data)?;
    }
    fs::write(dir.path().join(gz), [first.as_slice(), last, last].concat())?;
    let error = FashionMnist::load(Some(dir.path())).expect_err("it is too long");
    assert!(matches!(error, DataError::Checksum { .. }), "{error}");
    Ok(())
}

#[test]
fn plain_and_gzipped_files_are_the_same_and_damage_is_found() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = FashionMnist::load(None)?;
    data.write_idx(dir.path())?;
    assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
    let plain = FashionMnist::load(Some(dir.path()))?;
    assert!(plain.train.images == data.train.images && plain.test.labels == data.test.labels);
    assert_eq!(plain.sha256(), data.sha256());

    // Gzipped files come first where both are there.
    let name = "t10k-labels-idx1-ubyte";
    let whole = fs::read(dir.path().join(name))?;
    fs::remove_file(dir.path().join(name))?;
    gzip(dir.path(), name, &whole)?;
    assert_eq!(FashionMnist::load(Some(dir.path()))?.test.labels, data.test.labels);

    let refusal = || FashionMnist::load(Some(dir.path())).expect_err("it is damaged");
    let gz = format!("{name}.gz");
    let packed = fs::read(dir.path().join(&gz))?;
    let garbage = [packed.as_slice(), b"no gzip"].concat();
    let cut = &packed[..packed.len() - 1];
    for bytes in [&packed[..packed.len() / 2], cut, &garbage] {
        fs::write(dir.path().join(&gz), bytes)?;
        let error = refusal();
        assert!(matches!(error, DataError::Unreadable { .. }) && error.to_string().contains(&gz), "{error}");
    }
    let mut flipped = whole.clone();
    flipped[5000] ^= 1;
    let longer = [whole.as_slice(), &[0]].concat();
    let bomb = vec![0; 50_000_000];
    for bytes in [&flipped, &longer, &whole[..whole.len() - 1].to_vec(), &bomb, &vec![]] {
        gzip(dir.path(), name, bytes)?;
        let error = refusal();
        assert!(matches!(error, DataError::Checksum { .. }), "{error}");
        assert!(error.to_string().contains(&gz) && error.to_string().contains("just data"), "{error}");
    }
    fs::remove_file(dir.path().join(&gz))?;
    let error = refusal();
    assert!(matches!(error, DataError::Unreadable { .. }) && error.to_string().contains(name), "{error}");
    assert!(!error.to_string().contains(&gz), "{error}");
    fs::create_dir(dir.path().join(name))?;
    assert!(matches!(refusal(), DataError::Unreadable { .. }));
    Ok(())
}

#[test]
fn a_batch_is_padded_and_scaled() -> Result<()> {
    let data = FashionMnist::load(None)?;
    let batch = data.test.batch(&[3, 9_999], PixelRange::SIGNED, &Device::Cpu)?;
    assert_eq!(batch.dims(), [2, 1, 32, 32]);
    let rows = batch.get(1)?.get(0)?.to_vec2::<f32>()?;
    for (y, row) in rows.iter().enumerate() {
        for (x, &value) in row.iter().enumerate() {
            let inside = (2..30).contains(&y) && (2..30).contains(&x);
            let pixel = if inside { data.test.images[9_999 * 784 + (y - 2) * 28 + x - 2] } else { 0 };
            assert_eq!(value, f32::from(pixel) / 255.0 * 2.0 - 1.0, "row {y} column {x}");
        }
    }
    assert!(data.test.batch(&[10_000], PixelRange::SIGNED, &Device::Cpu).is_err());
    Ok(())
}

#[test]
fn the_pixels_standard_deviation_is_the_lessons() -> Result<()> {
    let (mean, std) = FashionMnist::load(None)?.train.mean_and_std(PixelRange::SIGNED);
    assert!((std - 0.66).abs() < 0.005, "std {std}");
    assert!((mean + 0.56).abs() < 0.01, "mean {mean}");
    Ok(())
}
