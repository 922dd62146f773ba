//! The pretrained classifier, whose features score the samples.

use crate::Features;
use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};
use elucidate_core::files;
use elucidate_core::params::frozen;
use elucidate_core::residual::ResidualClassifier;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Where the checkout that this was built from keeps the pretrained weights: `just train-classifier` writes them there.
pub const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/classifier.safetensors");

/// The pretrained weights.
static PRETRAINED: &[u8] = include_bytes!("../weights/classifier.safetensors");

/// The ten classes of Fashion-MNIST (Xiao 2017), in the order of their labels.
pub const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Images that go through the classifier at once; on the CPU each core takes a batch of its own.
const BATCH: usize = 64;

/// What the classifier finds in n images.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// 512 features an image.
    pub features: Features,
    /// The most probable class of each image, an index of [`CLASSES`].
    pub classes: Vec<u8>,
}

/// The lesson's classifier, trained on Fashion-MNIST with pixels in [−1, 1].
#[derive(Debug, Clone)]
pub struct Classifier {
    model: ResidualClassifier,
    device: Device,
    sha256: String,
}

impl Classifier {
    /// With the pretrained weights, which are in the program.
    ///
    /// # Errors
    /// Those of the device.
    pub fn pretrained(device: &Device) -> Result<Self> {
        Self::from_bytes(PRETRAINED, device).context("the classifier that is in this program")
    }

    /// Reads the weights from a safetensors file, of any float type.
    ///
    /// # Errors
    /// When the file cannot be read, is not a whole safetensors file, or holds another model; each names the file.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let bytes = files::read(path).with_context(|| {
            format!("cannot read the classifier {}; `just train-classifier` makes it", path.display())
        })?;
        Self::from_bytes(&bytes, device).with_context(|| format!("{} is not the classifier", path.display()))
    }

    fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        let sha256 = format!("{:x}", Sha256::digest(bytes));
        Ok(Self { model: parse(bytes, device)?, device: device.clone(), sha256 })
    }

    /// SHA-256 of the file of weights, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Features of n ≥ 2 images (n, 1, 32, 32) in [−1, 1]: 512 an image.
    ///
    /// # Errors
    /// When the shape does not fit, and as [`Features::new`].
    pub fn features(&self, images: &Tensor) -> Result<Features> {
        Features::from_tensor(&self.tensor(images)?)
    }

    /// Features and classes of n ≥ 2 images (n, 1, 32, 32) in [−1, 1], in one pass.
    ///
    /// # Errors
    /// As [`Classifier::features`].
    pub fn judge(&self, images: &Tensor) -> Result<Judged> {
        let features = self.tensor(images)?;
        let classes = self.model.logits(&features)?.argmax(D::Minus1)?.to_dtype(DType::U8)?.to_vec1()?;
        Ok(Judged { features: Features::from_tensor(&features)?, classes })
    }

    /// (n, 1, 32, 32) to (n, 512).
    fn tensor(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let n = images.dim(0)?;
        let batch = |from: usize| -> candle_core::Result<Tensor> {
            let batch = images.narrow(0, from, BATCH.min(n - from))?.to_device(&self.device)?;
            self.model.features(&batch.to_dtype(DType::F32)?)
        };
        let starts: Vec<usize> = (0..n).step_by(BATCH).collect();
        let batches: Vec<Tensor> = match self.device.is_cpu() {
            true => starts.into_par_iter().map(batch).collect::<candle_core::Result<_>>()?,
            false => starts.into_iter().map(batch).collect::<candle_core::Result<_>>()?,
        };
        Tensor::cat(&batches, 0)
    }
}

/// How many of `classes`, indices of [`CLASSES`], are of each class.
///
/// # Panics
/// When an index is too large.
pub fn class_counts(classes: &[u8]) -> [usize; CLASSES.len()] {
    let mut counts = [0; CLASSES.len()];
    classes.iter().for_each(|&class| counts[usize::from(class)] += 1);
    counts
}

fn parse(bytes: &[u8], device: &Device) -> Result<ResidualClassifier> {
    let parameters = files::parameters(files::parse_tensors(bytes, device)?)?;
    Ok(ResidualClassifier::new(1, CLASSES.len(), frozen(&parameters, device))?)
}
