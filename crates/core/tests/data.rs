//! Fashion-MNIST as it is read: whole, gzipped or plain, and refused where it is damaged. Needs the data: `just data`.

use anyhow::Result;
use candle_core::Device;
use elucidate_core::data::{DataError, FashionMnist, PixelRange};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

fn gzip(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = GzEncoder::new(File::create(dir.join(format!("{name}.gz")))?, Compression::fast());
    file.write_all(bytes)?;
    file.finish()?;
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
    let packed = fs::read(dir.path().join(format!("{name}.gz")))?;
    fs::write(dir.path().join(format!("{name}.gz")), &packed[..packed.len() / 2])?;
    assert!(matches!(refusal(), DataError::Unreadable { .. }), "{}", refusal());
    let mut flipped = whole.clone();
    flipped[5000] ^= 1;
    let longer = [whole.as_slice(), &[0]].concat();
    let bomb = vec![0; 50_000_000];
    for bytes in [&flipped, &longer, &whole[..whole.len() - 1].to_vec(), &bomb, &vec![]] {
        gzip(dir.path(), name, bytes)?;
        let error = refusal();
        assert!(matches!(error, DataError::Checksum { .. }), "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("just data"), "{error}");
    }
    fs::remove_file(dir.path().join(format!("{name}.gz")))?;
    let error = refusal();
    assert!(matches!(error, DataError::Unreadable { .. }) && error.to_string().contains(name), "{error}");
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
