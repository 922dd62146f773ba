//! scripts/fetch-data.sh, which `just data` runs: it mends data/fashion-mnist, and touches nothing else. Debian's packages and
//! cargo are played by scripts of a line; the publisher by a folder. Needs the data: `just data`.

use anyhow::{Result, ensure};
use elucidate_core::data::FashionMnist;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
const TRAIN_LABELS: &str = NAMES[1];
const TEST_LABELS: &str = NAMES[3];

/// A checkout of nothing but the script and the data, and a publisher who has no file yet.
struct Checkout {
    root: TempDir,
    data: PathBuf,
    published: PathBuf,
    programs: PathBuf,
}

impl Checkout {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        let [scripts, data, published, programs] =
            ["scripts", "data/fashion-mnist", "published", "programs"].map(|name| root.path().join(name));
        for dir in [&scripts, &data, &published, &programs] {
            fs::create_dir_all(dir)?;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/fetch-data.sh");
        fs::copy(script, scripts.join("fetch-data.sh"))?;
        FashionMnist::load(None)?.write_idx(&data)?;
        let checkout = Self { root, data, published, programs };
        for name in ["apt-get", "cargo"] {
            checkout.program(name, "exit 1")?;
        }
        Ok(checkout)
    }

    /// A program in the place of the real one; its calls are written down.
    fn program(&self, name: &str, line: &str) -> Result<()> {
        let path = self.programs.join(name);
        let calls = self.root.path().join("calls");
        fs::write(&path, format!("#!/bin/sh\necho {name} >>{}\n{line}\n", calls.display()))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }

    fn publish(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = File::create(self.published.join(format!("{name}.gz")))?;
        let mut file = GzEncoder::new(file, Compression::fast());
        file.write_all(bytes)?;
        file.finish()?;
        Ok(())
    }

    fn fetch(&self, user_dir: &Path) -> Result<Output> {
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH")?);
        let mut command = Command::new("bash");
        command.arg(self.root.path().join("scripts/fetch-data.sh")).env("PATH", path);
        command.env("FASHION_MNIST_URL", format!("file://{}", self.published.display()));
        Ok(command.env("FASHION_MNIST_DIR", user_dir).output()?)
    }

    /// Whether anybody was asked for a file.
    fn asked(&self) -> bool {
        self.root.path().join("calls").exists()
    }

    /// Every file of the data with what tells whether it was written anew.
    fn files(&self) -> Result<Vec<(PathBuf, [i64; 3])>> {
        let mut files = vec![];
        let mut folders = vec![self.root.path().join("data")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let (path, metadata) = {
                    let entry = entry?;
                    (entry.path(), entry.metadata()?)
                };
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                files.push((path, [metadata.ino() as i64, metadata.mtime(), metadata.mtime_nsec()]));
            }
        }
        files.sort();
        Ok(files)
    }
}

fn flip(path: &Path) -> Result<Vec<u8>> {
    let whole = fs::read(path)?;
    let mut bytes = whole.clone();
    bytes[5_000] ^= 1;
    fs::write(path, bytes)?;
    Ok(whole)
}

fn assert_succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn data_that_is_whole_is_left_alone_without_a_network() -> Result<()> {
    let checkout = Checkout::new()?;
    let unchanged = || -> Result<()> {
        let before = checkout.files()?;
        let output = checkout.fetch(Path::new(""))?;
        assert_succeeds(&output);
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(checkout.files()?, before);
        ensure!(!checkout.asked());
        Ok(())
    };
    unchanged()?;
    let dotted = |name: &str| checkout.data.join(name.replace("-idx", ".idx"));
    for name in NAMES {
        fs::rename(checkout.data.join(name), dotted(name))?;
    }
    // Of two members.
    for part in fs::read(dotted(TEST_LABELS))?.chunks(6_000) {
        let file = File::options()
            .append(true)
            .create(true)
            .open(dotted(TEST_LABELS).with_extension("idx1-ubyte.gz"))?;
        let mut file = GzEncoder::new(file, Compression::fast());
        file.write_all(part)?;
        file.finish()?;
    }
    fs::remove_file(dotted(TEST_LABELS))?;
    unchanged()?;
    let raw = checkout.data.join("FashionMNIST/raw");
    fs::create_dir_all(&raw)?;
    for entry in fs::read_dir(&checkout.data)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::rename(entry.path(), raw.join(entry.file_name()))?;
        }
    }
    unchanged()?;
    FashionMnist::load(Some(&checkout.data))?;
    Ok(())
}

#[test]
fn what_is_damaged_or_missing_is_fetched_anew_and_nothing_else() -> Result<()> {
    let checkout = Checkout::new()?;
    let inode = |name: &str| -> Result<u64> { Ok(fs::metadata(checkout.data.join(name))?.ino()) };
    let good = inode(NAMES[0])?;
    // The publisher has no other files than these two.
    checkout.publish(TEST_LABELS, &flip(&checkout.data.join(TEST_LABELS))?)?;
    let gone = checkout.data.join(TRAIN_LABELS);
    checkout.publish(TRAIN_LABELS, &fs::read(&gone)?)?;
    fs::remove_file(gone)?;
    let output = checkout.fetch(Path::new(""))?;
    assert_succeeds(&output);
    let said = String::from_utf8(output.stdout)?;
    assert!(said.contains(TEST_LABELS) && said.contains(TRAIN_LABELS) && !said.contains(NAMES[0]), "{said}");
    FashionMnist::load(Some(&checkout.data))?;
    assert_eq!(inode(NAMES[0])?, good);
    assert!(!checkout.data.join(TEST_LABELS).exists(), "the damaged file is still there");
    assert_eq!(checkout.files()?.len(), 5, "{:?}", checkout.files()?);

    // A damaged file with another name, and Debian's package instead of the publisher.
    let packed = checkout.data.join(format!("{TEST_LABELS}.gz"));
    fs::write(checkout.data.join("t10k-labels.idx1-ubyte"), "damaged")?;
    fs::rename(&packed, checkout.published.join("whole.gz"))?;
    checkout.program("apt-get", "touch dataset-fashion-mnist_1_all.deb")?;
    let unpacked = "$3/usr/share/datasets/fashion-mnist";
    let whole = checkout.published.join("whole.gz");
    let line = format!("mkdir -p {unpacked} && cp {} {unpacked}/{TEST_LABELS}.gz", whole.display());
    checkout.program("dpkg-deb", &line)?;
    assert_succeeds(&checkout.fetch(Path::new(""))?);
    FashionMnist::load(Some(&checkout.data))?;
    assert!(packed.exists() && !checkout.data.join("t10k-labels.idx1-ubyte").exists());
    assert_eq!(inode(NAMES[0])?, good);
    Ok(())
}

#[test]
fn what_is_fetched_and_damaged_replaces_nothing() -> Result<()> {
    let checkout = Checkout::new()?;
    checkout.publish(TEST_LABELS, &flip(&checkout.data.join(TEST_LABELS))?)?;
    flip(&checkout.data.join(TRAIN_LABELS))?;
    checkout.publish(TRAIN_LABELS, b"damaged too")?;
    let before = checkout.files()?;
    let output = checkout.fetch(Path::new(""))?;
    assert!(!output.status.success());
    assert_eq!(checkout.files()?, before);
    Ok(())
}

#[test]
fn a_folder_that_the_user_named_is_never_written_to() -> Result<()> {
    let checkout = Checkout::new()?;
    let whole = flip(&checkout.data.join(TEST_LABELS))?;
    checkout.publish(TEST_LABELS, &whole)?;
    let before = checkout.files()?;
    assert_succeeds(&checkout.fetch(&checkout.data)?);
    assert_eq!(checkout.files()?, before);
    // Nor is one that a link in its place leads to.
    let theirs = checkout.root.path().join("data/theirs");
    fs::rename(&checkout.data, &theirs)?;
    symlink(&theirs, &checkout.data)?;
    let before = checkout.files()?;
    let output = checkout.fetch(Path::new(""))?;
    let said = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && said.lines().count() == 1 && said.contains(TEST_LABELS), "{said}");
    assert_eq!(checkout.files()?, before);
    assert!(!checkout.asked());
    Ok(())
}
