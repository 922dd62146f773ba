//! Reading takes no more memory than a small multiple of the file. A test of its own: the counter is the whole program's.

#[path = "common/committed.rs"]
mod committed;
mod common;
#[path = "../../../tests/common/mutations.rs"]
mod mutations;

use anyhow::{Result, ensure};
use committed::{committed, name};
use common::{record, sample_row};
use elucidate_report::{RunRecord, SampleRow, TrainRow, draw_charts, read_csv, read_json, write_csv};
use mutations::try_mutations;
use peak_alloc::PeakAlloc;
use std::fs;
use std::path::Path;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Whether `read` succeeded; it may take `times` as much memory as the file has bytes, and `fixed` bytes.
fn bounded<T>(path: &Path, (times, fixed): (u64, u64), read: impl FnOnce() -> Result<T>) -> Result<bool> {
    let len = fs::metadata(path)?.len();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let was_read = read().is_ok();
    let grown = MEMORY.peak_usage().saturating_sub(before) as u64;
    ensure!(grown <= times * len + fixed, "{}: {grown} bytes for a file of {len}", path.display());
    Ok(was_read)
}

const READING: (u64, u64) = (64, 1 << 20);
/// serde_json's trees of options take more: each small object is a node with room for eleven.
const JSON: (u64, u64) = (128, 1 << 20);
const DRAWING: (u64, u64) = (128, 32 << 20);

#[test]
fn memory_is_bounded_by_the_size_of_the_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let files = |wanted: &str| committed(|path| name(path) == wanted);
    try_mutations("run.json, memory", 300, &files("run.json")?, |_, bytes| {
        fs::write(at("run.json"), bytes)?;
        bounded(&at("run.json"), JSON, || read_json::<RunRecord>(&at("run.json")))
    })?;
    try_mutations("samples.csv, memory", 300, &files("samples.csv")?, |_, bytes| {
        fs::write(at("samples.csv"), bytes)?;
        bounded(&at("samples.csv"), READING, || read_csv::<SampleRow>(&at("samples.csv")))
    })?;
    fs::remove_file(at("samples.csv"))?;
    try_mutations("train.csv, memory", 300, &files("train.csv")?, |_, bytes| {
        fs::write(at("rows.csv"), bytes)?;
        bounded(&at("rows.csv"), READING, || read_csv::<TrainRow>(&at("rows.csv")))
    })?;

    let mut value = serde_json::to_value(record())?;
    for (options, what) in [("{\"\":0}", "objects"), ("[0]", "lists"), ("0", "numbers"), ("[[]]", "nested")] {
        value["options"] = serde_json::from_str(&format!("[{}]", [options; 50_000].join(",")))?;
        fs::write(at("run.json"), serde_json::to_vec(&value)?)?;
        ensure!(bounded(&at("run.json"), JSON, || read_json::<RunRecord>(&at("run.json")))?, "{what}");
    }
    value["options"] = serde_json::Value::Null;
    let deep = serde_json::to_string(&value)?.replace("null", &"[".repeat(1_000_000));
    fs::write(at("run.json"), deep)?;
    ensure!(!bounded(&at("run.json"), JSON, || read_json::<RunRecord>(&at("run.json")))?, "deep");
    fs::write(at("run.json"), serde_json::to_vec(&record())?)?;

    write_csv(&at("rows.csv"), &[sample_row()])?;
    let header = fs::read_to_string(at("rows.csv"))?.lines().next().unwrap_or("").to_string();
    let required =
        ["seed", "n", "fid", "kid", "seconds", "kid_subsets_std_err", "kid_chunks", "n_real", "epochs"];
    let required = [&required[..], &["batch_size", "parameters", "threads"]].concat();
    let row: Vec<&str> =
        header.split(',').map(|field| if required.contains(&field) { "1" } else { "" }).collect();
    fs::write(at("rows.csv"), format!("{header}\n{}", format!("{}\n", row.join(",")).repeat(50_000)))?;
    ensure!(bounded(&at("rows.csv"), READING, || read_csv::<SampleRow>(&at("rows.csv")))?, "short rows");

    for (rows, drawn) in [(",1,1\n,2,2\n", true), ("a,1,1\nb,2,2\n", false)] {
        fs::write(at("sampling_sigma.csv"), format!("series,x,y\n{}", rows.repeat(2_000)))?;
        let was_drawn = bounded(&at("sampling_sigma.csv"), DRAWING, || draw_charts(dir.path()))?;
        ensure!(was_drawn == drawn, "{rows:?}");
    }
    Ok(())
}
