//! The binary that trains the classifier, and the classifier that it writes. These tests need Fashion-MNIST: `just data`
//! fetches it.

use assert_cmd::Command;
use candle_core::{D, Device, Tensor};
use candle_nn::ModuleT;
use elucidate_core::data::{FashionMnist, PixelRange};
use elucidate_core::params::{Tensors, frozen};
use elucidate_core::residual::ResidualClassifier;
use elucidate_core::rng::Streams;
use elucidate_metrics::{CLASSES, Classifier, Features, WEIGHTS, class_counts};
use predicates::prelude::*;
use sha2::{Digest, Sha256};
use std::path::Path;

fn train(arguments: &[&str], out: &Path) -> assert_cmd::assert::Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train-classifier"));
    // With it, candle's errors bring a backtrace along.
    command.env_remove("RUST_BACKTRACE");
    command.args(["--test-images=10", "--batch-size=32"]).args(arguments);
    command.arg("--out").arg(out).assert()
}

fn features(classifier: &Classifier, images: &Tensor) -> Features {
    classifier.features(images).unwrap()
}

#[test]
fn the_weights_do_not_depend_on_threads_and_give_features_to_any_batch() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] =
        ["one/weights.safetensors", "two/weights.safetensors"].map(|name| folder.path().join(name));
    train(&["--epochs=1", "--train-images=48", "--threads=1"], &one).success();
    train(&["--epochs=1", "--train-images=48", "--threads=2"], &two).success();
    let bytes = std::fs::read(&one).unwrap();
    assert!(bytes == std::fs::read(&two).unwrap(), "the weights depend on the number of threads");

    let classifier = Classifier::load(&one, &Device::Cpu).unwrap();
    assert_eq!(classifier.sha256(), format!("{:x}", Sha256::digest(&bytes)));
    let images = Streams::new(0).normal_images("x", 0..70, &[1, 32, 32], &Device::Cpu).unwrap();
    let whole = features(&classifier, &images);
    assert_eq!((whole.samples(), whole.dim()), (70, 512));
    let part = features(&classifier, &images.narrow(0, 60, 10).unwrap());
    assert_eq!(part.rows(), whole.rows().subrows(60, 10));
    assert!(classifier.features(&images.narrow(3, 0, 16).unwrap().narrow(1, 0, 0).unwrap()).is_err());
}

#[test]
fn a_training_that_was_killed_goes_on_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] =
        ["one/weights.safetensors", "two/weights.safetensors"].map(|name| folder.path().join(name));
    let arguments = ["--epochs=3", "--train-images=96", "--test-images=10", "--batch-size=32"];
    train(&arguments[..2], &one).success();
    let checkpoint = folder.path().join("two/weights.checkpoint.safetensors");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_train-classifier"));
    let mut killed = command.args(arguments).arg("--out").arg(&two).spawn().unwrap();
    while !checkpoint.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    killed.kill().unwrap();
    assert!(!killed.wait().unwrap().success());
    train(&["--epochs=4", "--train-images=96"], &two)
        .failure()
        .stderr(predicate::str::contains("epochs 3 (asked for: 4); delete it to train anew"));
    train(&arguments[..2], &two).success().stderr(predicate::str::contains("going on after step"));
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(), "the weights differ");
    assert!(!checkpoint.exists());
}

#[test]
fn the_committed_weights_tell_clothes_apart() {
    let test = FashionMnist::load(None).unwrap().test;
    let indices: Vec<usize> = (0..test.len()).collect();
    let images = test.batch(&indices, PixelRange::SIGNED, &Device::Cpu).unwrap();
    let classes = Classifier::load(Path::new(WEIGHTS), &Device::Cpu).unwrap().judge(&images).unwrap().classes;
    let right = classes.iter().zip(&test.labels).filter(|(class, label)| class == label).count();
    // 9,362 on the machine that trained it; rounding differs from one to another.
    assert!(right.abs_diff(9362) < 20, "{right} of 10,000 are right");
    // There are 1,000 of each; 941 (shirts) to 1,027 (sneakers) were found there.
    for (class, count) in CLASSES.iter().zip(class_counts(&classes)) {
        assert!(count.abs_diff(1000) < 100, "{count} are taken for class {class}");
    }
}

#[test]
fn classes_are_those_of_the_whole_network_and_features_are_the_same() {
    let tensors: Tensors =
        candle_core::safetensors::load(WEIGHTS, &Device::Cpu).unwrap().into_iter().collect();
    let model = ResidualClassifier::new(1, 10, frozen(&tensors, &Device::Cpu)).unwrap();
    let classifier = Classifier::load(Path::new(WEIGHTS), &Device::Cpu).unwrap();
    let test = FashionMnist::load(None).unwrap().test;
    let indices: Vec<usize> = (0..200).collect();
    let images = test.batch(&indices, PixelRange::SIGNED, &Device::Cpu).unwrap();
    let judged = classifier.judge(&images).unwrap();
    assert_eq!(judged.features, features(&classifier, &images));
    let classes = model.forward_t(&images, false).unwrap().argmax(D::Minus1).unwrap();
    let classes: Vec<u8> = classes.to_vec1::<u32>().unwrap().into_iter().map(|class| class as u8).collect();
    assert_eq!(judged.classes, classes);
}

#[test]
fn classes_are_counted() {
    assert_eq!(class_counts(&[]), [0; 10]);
    assert_eq!(class_counts(&[9, 0, 9, 3]), [1, 0, 0, 1, 0, 0, 0, 0, 0, 2]);
}

#[test]
fn a_file_that_is_not_the_classifier_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let complaint = || format!("{:#}", Classifier::load(&path, &Device::Cpu).unwrap_err());
    assert!(complaint().contains("just train-classifier"), "{}", complaint());
    let other = Tensor::zeros(3, candle_core::DType::F16, &Device::Cpu).unwrap();
    other.save_safetensors("conv_in.weight", &path).unwrap();
    assert!(complaint().contains("blocks.0.conv1.weight"), "{}", complaint());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 2]).unwrap();
    assert!(complaint().contains("weights.safetensors is not the classifier"), "{}", complaint());
}

#[test]
fn impossible_options_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("weights.safetensors");
    let nowhere = format!("--data-dir={}", folder.path().join("nowhere").display());
    for (argument, complaint) in [
        ("--lr=0", "--lr 0"),
        ("--train-images=65", "leaves a batch of one image"),
        ("--train-images=60001", "--train-images 60001"),
        ("--threads=0", "0 threads"),
        (&nowhere, "nowhere"),
    ] {
        let one_line = predicate::str::is_match("^error: [^\n]+\n$").unwrap();
        let assert = train(&[argument], &out).failure().stderr(one_line);
        assert.stderr(predicate::str::contains(complaint));
        assert!(!out.exists());
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    train(&[], &file.join("weights.safetensors"))
        .failure()
        .stderr(predicate::str::contains("cannot write the weights"));
}
