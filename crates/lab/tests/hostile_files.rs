//! Model folders of 22_noise_pred that are damaged or meant ill: read or refused in one line that names the file, without a
//! panic and without more memory than a small multiple of it.

#[path = "../../../tests/common/mutations.rs"]
mod mutations;

use anyhow::{Result, ensure};
use candle_core::Device;
use elucidate_core::params::Params;
use elucidate_core::rng::Streams;
use elucidate_lab::train::noise_level::NoiseLevelModel;
use mutations::try_mutations;
use peak_alloc::PeakAlloc;
use std::fs;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// One test: the counter is the whole program's.
#[test]
fn damaged_models_of_the_noise_level_are_refused_or_read() -> Result<()> {
    let model = tempfile::tempdir()?;
    let model = model.path();
    let channels = [8, 8, 8, 16, 16, 32];
    let (_, params) = Params::init(&Streams::new(1), &Device::Cpu, |vb| NoiseLevelModel::new(channels, vb))?;
    safetensors::serialize_to_file(params.snapshot()?, None, &model.join(FILES[1]))?;
    let config = r#"{"_class_name": "NoiseLevelNetwork", "block_out_channels": [8, 8, 8, 16, 16, 32],
        "_elucidate": {"experiment": "22_noise_pred"}}"#;
    fs::write(model.join(FILES[0]), config)?;
    NoiseLevelModel::load(model, &Device::Cpu)?;
    let dir = tempfile::tempdir()?;
    for (file, cases) in [(FILES[0], 60), (FILES[1], 40)] {
        for name in FILES {
            fs::copy(model.join(name), dir.path().join(name))?;
        }
        let whole = [(model.join(file), fs::read(model.join(file))?)];
        try_mutations(&format!("noise level, {file}"), cases, &whole, |_, bytes| {
            fs::write(dir.path().join(file), bytes)?;
            let size: u64 = FILES
                .iter()
                .filter_map(|name| fs::metadata(dir.path().join(name)).ok())
                .map(|m| m.len())
                .sum();
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let read = NoiseLevelModel::load(dir.path(), &Device::Cpu);
            let grown = MEMORY.peak_usage().saturating_sub(before) as u64;
            ensure!(grown < 32 * size + (4 << 20), "{grown} bytes of memory for {size}");
            let Err(error) = read else { return Ok(true) };
            ensure!(format!("{error:#}").contains(file), "{file} is not named: {error:#}");
            Ok(false)
        })?;
    }
    Ok(())
}
