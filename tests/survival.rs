//! What a run survives: a stop between any two samples, a second run in its folder, a full disk, a folder that is gone; and
//! what it refuses. Needs the data: `just data`. How it survives being killed: torture.rs.

mod common;
#[path = "common/runs.rs"]
mod runs;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use common::{refuses, stopped};
use elucidate_core::data::FashionMnist;
use elucidate_report::{RunRecord, SCHEMA_VERSION, SampleRow, read_csv, read_json, write_csv, write_json};
use runs::differences;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_exp-23-karras");

/// One setting over three seeds: seven rows above the four of the first floor.
const THREE_SEEDS: [&str; 10] =
    ["--epochs", "1", "--samples", "10", "--seeds", "3", "--sampler", "heun", "--steps", "2"];

fn resume(out: &Path) -> assert_cmd::Command {
    let mut command = common::command(BINARY);
    command.arg("--resume").arg(out);
    command
}

/// A finished run of three seeds.
fn finished(out: &Path) -> Result<()> {
    common::smoke(BINARY, out).args(THREE_SEEDS).assert().success();
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status()?;
    anyhow::ensure!(status.success(), "cannot copy {}", from.display());
    Ok(())
}

/// A finished run of three seeds and a copy of it.
fn twins(dir: &Path) -> Result<[PathBuf; 2]> {
    let [a, b] = ["a", "b"].map(|name| dir.join(name));
    finished(&a.join("run"))?;
    copy(&a, &b)?;
    Ok([a.join("run"), b.join("run")])
}

#[test]
fn a_stopped_sweep_makes_the_rows_that_are_missing_and_no_other() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let [whole, part] = twins(dir.path())?;
    let rows: Vec<SampleRow> = read_csv(&whole.join("samples.csv"))?;
    assert_eq!(rows.len(), 15);
    // Between the seeds of the floor, and between those of the sampler.
    for kept in [5, 13] {
        stopped(&part, |record| record.seconds.values_mut().for_each(|seconds| *seconds += 1000.0))?;
        let marked: Vec<SampleRow> =
            rows[..kept].iter().map(|row| SampleRow { seconds: 12345.0, ..row.clone() }).collect();
        write_csv(&part.join("samples.csv"), &marked)?;
        fs::remove_file(part.join("fid_by_sampler.png"))?;
        resume(&part).assert().success();
        let again: Vec<SampleRow> = read_csv(&part.join("samples.csv"))?;
        assert!(again[..kept].iter().all(|row| row.seconds == 12345.0), "finished rows were made again");
        assert!(again[kept..].iter().all(|row| row.seconds != 12345.0));
        assert_eq!(differences(&whole, &part)?.1, [""; 0]);
    }
    let seconds = RunRecord::read(&part)?.seconds;
    assert!(
        seconds.values().all(|&seconds| seconds > 2000.0),
        "those of earlier sessions are lost: {seconds:?}"
    );
    // A finished run is left as it is.
    let before = fs::read(part.join("run.json"))?;
    resume(&part).assert().success();
    assert_eq!(before, fs::read(part.join("run.json"))?);
    assert_eq!(RunRecord::read(&part)?.resumed.len(), 2);
    Ok(())
}

#[test]
fn a_trained_model_is_not_trained_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let [whole, part] = twins(dir.path())?;
    stopped(&part, |_| ())?;
    fs::remove_dir_all(part.join("checkpoint"))?;
    fs::remove_file(part.join("samples.csv"))?;
    resume(&part).assert().success();
    assert!(!part.join("checkpoint").exists());
    copy(&whole.join("checkpoint"), &part)?;
    assert_eq!(differences(&whole, &part)?.1, [""; 0]);
    Ok(())
}

#[test]
fn what_cannot_be_gone_on_with_is_refused_by_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    finished(&out)?;
    let record = RunRecord::read(&out)?;
    refuses(resume(&out).args(["--samples", "20"]), "--samples cannot be given with --resume");
    refuses(resume(&out).args(["--sampler", "euler"]), "--sampler cannot be given with --resume");
    stopped(&out, |record| record.schema_version = SCHEMA_VERSION + 1)?;
    refuses(&mut resume(&out), "use a newer one");
    write_json(&out.join("run.json"), &record)?;
    stopped(&out, |_| ())?;
    let json = fs::read_to_string(out.join("run.json"))?;
    for (from, to, what) in [
        ("\"experiment\": \"23_karras\"", "\"experiment\": \"22_cosine\"", "a run of 22_cosine"),
        ("\"--epochs\"", "\"--epocs\"", "a command line that this version does not know"),
        (&record.classifier_sha256, "0123", "another classifier"),
        ("\"lr\": 0.004", "\"lr\": -1", "--lr -1"),
        ("\"sigma_data\": 0.66", "\"sigma_dat\": 0.66", "run.json is of another version"),
    ] {
        assert!(json.contains(from), "{from}");
        fs::write(out.join("run.json"), json.replace(from, to))?;
        refuses(&mut resume(&out), what);
    }
    fs::write(out.join("run.json"), &json[..json.len() / 2])?;
    refuses(&mut resume(&out), "run.json is damaged");
    // Samples of another model.
    fs::write(out.join("run.json"), &json)?;
    let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
    let others: Vec<SampleRow> =
        rows.iter().map(|row| SampleRow { checkpoint_sha256: "abc".into(), ..row.clone() }).collect();
    write_csv(&out.join("samples.csv"), &others)?;
    refuses(&mut resume(&out), "has samples of the model abc");
    // A damaged model, and no whole checkpoint to make it from.
    write_csv(&out.join("samples.csv"), &rows)?;
    let model = out.join("model/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&model)?;
    fs::write(&model, &whole[..whole.len() - 1])?;
    refuses(&mut resume(&out), "diffusion_pytorch_model.safetensors is damaged");
    fs::remove_file(&model)?;
    for name in ["last.safetensors", "last.previous.safetensors"] {
        fs::write(out.join("checkpoint").join(name), "damaged").ok();
    }
    refuses(&mut resume(&out), "last.safetensors is damaged");
    // And what was written before is there still.
    assert_eq!(rows, read_csv::<SampleRow>(&out.join("samples.csv"))?);
    Ok(())
}

#[test]
fn a_run_of_the_second_schema_is_gone_on_with() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    finished(&out)?;
    stopped(&out, |_| ())?;
    let mut record: serde_json::Value = read_json(&out.join("run.json"))?;
    let keys = record.as_object_mut().context("an object")?;
    keys.insert("schema_version".into(), 2.into());
    keys.remove("resumed");
    keys.remove("models");
    write_json(&out.join("run.json"), &record)?;
    resume(&out).assert().success();
    let record = RunRecord::read(&out)?;
    assert!(record.finished.is_some());
    assert_eq!(record.schema_version, SCHEMA_VERSION);
    Ok(())
}

#[test]
fn two_runs_do_not_write_into_one_folder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    fs::create_dir(&out)?;
    let lock = File::create(out.join(".lock"))?;
    lock.lock()?;
    refuses(&mut common::smoke(BINARY, &out), "another run is writing into");
    drop(lock);
    // The lock of a process that is gone holds nobody up, and neither do a lock and a log without a run.
    fs::write(out.join("log.txt"), "")?;
    finished(&out)?;
    stopped(&out, |_| ())?;
    let lock = File::options().write(true).open(out.join(".lock"))?;
    lock.lock()?;
    refuses(&mut resume(&out), "another run is writing into");
    Ok(())
}

#[test]
fn runs_begun_in_the_same_second_have_folders_of_their_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // In another folder the data is not found by itself.
    let data = fs::canonicalize(FashionMnist::load(None)?.source)?;
    let start = || {
        let mut command = common::plain(BINARY);
        command.current_dir(dir.path()).args(["--preset", "smoke", "--lr", "1e30", "--data-dir"]).arg(&data);
        command.stderr(Stdio::null()).spawn()
    };
    // They end by themselves at their first loss.
    let runs = (0..4).map(|_| start()).collect::<std::io::Result<Vec<_>>>()?;
    for mut run in runs {
        assert_eq!(run.wait()?.code(), Some(1));
    }
    let folders = fs::read_dir(dir.path().join("results/23_karras"))?.collect::<std::io::Result<Vec<_>>>()?;
    assert_eq!(folders.len(), 4);
    assert!(folders.iter().all(|folder| folder.path().join("run.json").exists()));
    Ok(())
}

/// What a shell command of `script` prints, the binary as $0 and `arguments` as $@.
fn shell(script: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY]).args(arguments);
    Ok(command.env_remove("RUST_BACKTRACE").env_remove("RUST_LOG").output()?)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one line that says what went wrong.
fn error(output: &Output) -> Result<String> {
    let text = stderr(output);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!((errors.len(), output.status.code()), (1, Some(1)), "{text}");
    Ok(errors[0].to_string())
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_the_run_goes_on_once_it_can() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (whole, out) = (dir.path().join("a/run"), dir.path().join("b/run"));
    finished(&whole)?;
    let arguments =
        [&["--preset", "smoke", "--out", out.to_str().context("UTF-8")?], &THREE_SEEDS[..]].concat();
    // No file may have more than so many blocks of half a kilobyte: a checkpoint does.
    let limited = shell("trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"", &arguments)?;
    let message = error(&limited)?;
    for part in ["checkpoint/last.safetensors", "File too large", "--resume"] {
        assert!(message.contains(part), "{message}");
    }
    resume(&out).assert().success();
    assert_eq!(differences(&whole, &out)?.1, [""; 0]);
    Ok(())
}

/// On a small file system of its own: full, read-only, then with room.
#[test]
fn a_full_disk_loses_nothing() -> Result<()> {
    const MOUNT: &str = "mount -t tmpfs -o size=2000k none";
    let dir = tempfile::tempdir()?;
    let (whole, disk, out) = (dir.path().join("a/run"), dir.path().join("disk"), dir.path().join("b/run"));
    fs::create_dir(&disk)?;
    fs::create_dir(dir.path().join("b"))?;
    let possible = format!("unshare -rm {MOUNT} {}", disk.display());
    if !Command::new("sh").args(["-c", &possible]).stderr(Stdio::null()).status()?.success() {
        eprintln!("no file system can be mounted here: only the limit on a file's size is tested");
        return Ok(());
    }
    finished(&whole)?;
    // Room for one checkpoint and not for two; then none to write in at all; then enough.
    let script = format!(
        "unshare -rm sh -c '
            {MOUNT} {disk}
            \"$0\" --preset smoke --out {disk}/run \"$@\" 2>{full}; echo $?
            mount -o remount,ro {disk}
            \"$0\" --resume {disk}/run 2>{read_only}; echo $?
            mount -o remount,rw,size=20m {disk}
            \"$0\" --resume {disk}/run 2>{room}; echo $?
            cp -r {disk}/run {out}
        ' \"$0\" \"$@\"",
        disk = disk.display(),
        full = dir.path().join("full").display(),
        read_only = dir.path().join("read-only").display(),
        room = dir.path().join("room").display(),
        out = out.display(),
    );
    let output = shell(&script, &THREE_SEEDS)?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n1\n0\n", "{}", stderr(&output));
    for (name, parts) in [
        ("full", ["disk/run/", "No space left on device", "--resume"]),
        ("read-only", ["disk/run", "Read-only file system", "cannot write"]),
    ] {
        let text = fs::read_to_string(dir.path().join(name))?;
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "{text}");
        assert!(parts.iter().all(|part| errors[0].contains(part)), "{text}");
    }
    assert_eq!(differences(&whole, &out)?.1, [""; 0]);
    Ok(())
}

#[test]
fn a_folder_that_is_deleted_meanwhile_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("run");
    let mut command = common::plain(BINARY);
    command.args(["--preset", "smoke", "--epochs", "50", "--out"]).arg(&out).stderr(Stdio::piped());
    let child = command.spawn()?;
    while !out.join("checkpoint/last.safetensors").exists() {
        thread::sleep(Duration::from_millis(10));
    }
    while out.exists() {
        // A file that is written at this moment may come in between.
        fs::remove_dir_all(&out).ok();
    }
    let message = error(&child.wait_with_output()?)?;
    let gone = ["No such file", "there is no folder"].iter().any(|words| message.contains(words));
    assert!(message.contains("run/") && gone, "{message}");
    Ok(())
}

#[test]
fn a_model_whose_answers_are_not_finite_ends_the_run_and_keeps_its_rows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (first, out) = (dir.path().join("first"), dir.path().join("out"));
    finished(&first)?;
    let path = first.join("model/diffusion_pytorch_model.safetensors");
    let model = candle_core::safetensors::load(&path, &Device::Cpu)?;
    let save = |value: f32| -> Result<()> {
        let mut model: HashMap<String, Tensor> = model.clone();
        let bias = model["conv_out.bias"].to_dtype(candle_core::DType::F32)?;
        model.insert("conv_out.bias".into(), (bias.zeros_like()? + f64::from(value))?);
        Ok(candle_core::safetensors::save(&model, &path)?)
    };
    let again = || {
        let mut command = common::smoke(BINARY, &out);
        command.args(&THREE_SEEDS[2..]).arg("--checkpoint").arg(first.join("model"));
        command
    };
    save(f32::NAN)?;
    refuses(&mut again(), "parameter conv_out.bias has values that are not finite");
    assert!(!out.exists());
    save(f32::MAX)?;
    refuses(&mut again(), "the model's answer at σ 0.01 is not finite");
    let rows: Vec<SampleRow> = read_csv(&out.join("samples.csv"))?;
    assert_eq!(rows.len(), 12);

    // A model that is there has a card, whatever becomes of its samples.
    stopped(&first, |_| ())?;
    fs::remove_file(first.join("samples.csv"))?;
    fs::remove_file(first.join("model/README.md"))?;
    refuses(&mut resume(&first), "the model's answer at σ 0.01 is not finite");
    assert!(fs::read_to_string(first.join("model/README.md"))?.contains("None yet."));
    Ok(())
}
