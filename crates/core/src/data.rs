//! Fashion-MNIST (Xiao 2017): 60,000 training and 10,000 test images, 28×28 grey.

use crate::files::check_regular;
use candle_core::{Device, Result, Tensor};
use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Height and width of an image as it is stored.
pub const SIDE: usize = 28;
/// Height and width of an image as the networks see it: with two rows of zeros on each side.
pub const PADDED_SIDE: usize = 32;
/// Shape of an image as the networks see it: channels, rows, columns.
pub const IMAGE: [usize; 3] = [1, PADDED_SIDE, PADDED_SIDE];

const MARGIN: usize = (PADDED_SIDE - SIDE) / 2;

/// An IDX file of the data set.
struct Idx {
    name: &'static str,
    /// SHA-256 of the unpacked file.
    sha256: &'static str,
    /// What stands before the values: the magic number and the dimensions.
    header: &'static [u32],
}

impl Idx {
    fn header_bytes(&self) -> Vec<u8> {
        self.header.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    /// Where it is in `dir`, if anywhere: gzipped or plain, with the publisher's dash in its name or the dot of other copies.
    fn find(&self, dir: &Path) -> Option<PathBuf> {
        let dotted = self.name.replace("-idx", ".idx");
        let names =
            [self.name, &dotted].into_iter().flat_map(|name| [format!("{name}.gz"), name.to_string()]);
        names.map(|name| dir.join(name)).find(|path| path.symlink_metadata().is_ok())
    }

    /// Size of the unpacked file.
    fn size(&self) -> usize {
        4 * self.header.len() + self.header[1..].iter().map(|&n| n as usize).product::<usize>()
    }
}

const FILES: [Idx; 4] = [
    Idx {
        name: "train-images-idx3-ubyte",
        sha256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        header: &[2051, 60_000, 28, 28],
    },
    Idx {
        name: "train-labels-idx1-ubyte",
        sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        header: &[2049, 60_000],
    },
    Idx {
        name: "t10k-images-idx3-ubyte",
        sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        header: &[2051, 10_000, 28, 28],
    },
    Idx {
        name: "t10k-labels-idx1-ubyte",
        sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        header: &[2049, 10_000],
    },
];

/// Where Debian's package `dataset-fashion-mnist` installs the data.
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";

/// Why the data cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file is missing or cannot be read.
    #[error("cannot read {}: {source}; `just data` fetches Fashion-MNIST, --data-dir says where it is", path.display())]
    Unreadable {
        /// The file that was tried.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not the one that was published.
    #[error(
        "{} is damaged: its SHA-256, unpacked, is {found}, not {expected}; `just data` mends what is in \
         data/fashion-mnist; elsewhere put a whole file in its place", path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What its unpacked bytes should have.
        expected: &'static str,
        /// What they have.
        found: String,
    },
    /// The data is nowhere on this machine.
    #[error(
        "Fashion-MNIST is neither in data/fashion-mnist nor in {DEBIAN}; run `just data`, or say where the four IDX \
         files are with --data-dir"
    )]
    Nowhere,
    /// The hub does not give the data.
    #[cfg(feature = "hub")]
    #[error(
        "cannot fetch Fashion-MNIST from the Hugging Face hub: {0}; put the four IDX files into data/fashion-mnist, or \
         say where they are with --data-dir"
    )]
    Hub(candle_core::Error),
}

/// Pixels x of \[0,1\] as a network sees them: x · scale + offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelRange {
    /// What a pixel is multiplied by.
    pub scale: f32,
    /// What is added then.
    pub offset: f32,
}

impl PixelRange {
    /// \[−1, 1\], as 23_karras has it.
    pub const SIGNED: Self = Self { scale: 2.0, offset: -1.0 };
    /// \[−½, ½\], as the three lesson-22 notebooks have it.
    pub const CENTRED: Self = Self { scale: 1.0, offset: -0.5 };
}

/// The whole data set, its bytes as published.
#[derive(Debug, Clone)]
pub struct FashionMnist {
    /// The 60,000 training images.
    pub train: Split,
    /// The 10,000 test images.
    pub test: Split,
    /// Where it was found: a folder, or the hub.
    pub source: String,
}

/// Images with their labels.
#[derive(Debug, Clone)]
pub struct Split {
    /// Grey values, by image, row and column: n · 28 · 28.
    pub images: Vec<u8>,
    /// Classes, 0 to 9: n.
    pub labels: Vec<u8>,
}

impl FashionMnist {
    /// Loads the data from `data_dir` where given, else from the folder that the environment's FASHION_MNIST_DIR names (not
    /// where it is empty), else from `data/fashion-mnist` in this folder or one above it, else from where Debian's package installs it, else,
    /// with the feature `hub`, from the Hugging Face hub. The folder may be that of
    /// torchvision, with the files in `FashionMNIST/raw`; IDX files may be gzipped, and named `train-images.idx3-ubyte`.
    /// Nothing is parsed before its checksum is found right.
    ///
    /// # Errors
    /// When `data_dir` lacks a file, when a file is damaged, or when the data is nowhere.
    pub fn load(data_dir: Option<&Path>) -> std::result::Result<Self, DataError> {
        let from_environment = || {
            let dir = std::env::var_os("FASHION_MNIST_DIR").filter(|dir| !dir.is_empty());
            dir.map(PathBuf::from)
        };
        match data_dir.map(Path::to_path_buf).or_else(from_environment).or_else(find_folder) {
            Some(dir) => Self::load_folder(&dir),
            #[cfg(feature = "hub")]
            None => Self::load_hub(),
            #[cfg(not(feature = "hub"))]
            None => Err(DataError::Nowhere),
        }
    }

    fn load_folder(dir: &Path) -> std::result::Result<Self, DataError> {
        let [train_images, train_labels, test_images, test_labels] = &FILES;
        let dir = &with_files(dir);
        Ok(Self {
            train: Split { images: read_idx(dir, train_images)?, labels: read_idx(dir, train_labels)? },
            test: Split { images: read_idx(dir, test_images)?, labels: read_idx(dir, test_labels)? },
            source: dir.display().to_string(),
        })
    }

    /// Loads the data from the Hugging Face hub, whose client keeps what it fetched.
    ///
    /// # Errors
    /// When the hub cannot be reached, or what it gives is not the data as published.
    #[cfg(feature = "hub")]
    pub fn load_hub() -> std::result::Result<Self, DataError> {
        let hub = candle_datasets::vision::fashion_mnist::load().map_err(DataError::Hub)?;
        let pixels = |images: &Tensor| -> Result<Vec<u8>> {
            let values = (images * 255.0)?.round()?.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(|value| value as u8).collect())
        };
        let split = |images: &Tensor, labels: &Tensor| -> Result<Split> {
            Ok(Split { images: pixels(images)?, labels: labels.to_vec1::<u8>()? })
        };
        let data = Self {
            train: split(&hub.train_images, &hub.train_labels).map_err(DataError::Hub)?,
            test: split(&hub.test_images, &hub.test_labels).map_err(DataError::Hub)?,
            source: "the Hugging Face hub".to_string(),
        };
        for (file, values) in data.files() {
            let path = Path::new(&data.source).join(file.name);
            check(&[&file.header_bytes(), values], file, &path)?;
        }
        Ok(data)
    }

    /// Writes the four IDX files, plain, as they are published, into the folder `dir`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_idx(&self, dir: &Path) -> io::Result<()> {
        self.files().into_iter().try_for_each(|(file, values)| {
            std::fs::write(dir.join(file.name), [file.header_bytes().as_slice(), values].concat())
        })
    }

    /// Each IDX file with its values.
    fn files(&self) -> [(&'static Idx, &[u8]); 4] {
        let [train_images, train_labels, test_images, test_labels] = &FILES;
        [
            (train_images, &self.train.images),
            (train_labels, &self.train.labels),
            (test_images, &self.test.images),
            (test_labels, &self.test.labels),
        ]
    }

    /// One SHA-256 that names the data: of the checksums of the four files, which were checked while loading.
    pub fn sha256(&self) -> String {
        hex(Sha256::digest(FILES.map(|file| file.sha256).concat()).as_slice())
    }
}

/// `data/fashion-mnist` here or above, or Debian's folder: the first that is there.
fn find_folder() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let local = here.ancestors().map(|folder| folder.join("data/fashion-mnist"));
    local.chain([PathBuf::from(DEBIAN)]).find(|folder| folder.is_dir())
}

/// The folder of the data set that is in `dir`: itself, or where torchvision puts the files below it, whichever has most.
fn with_files(dir: &Path) -> PathBuf {
    let folders =
        ["FashionMNIST/raw", "raw"].map(|below| dir.join(below)).into_iter().chain([dir.to_path_buf()]);
    let files = |folder: &PathBuf| FILES.iter().filter(|file| file.find(folder).is_some()).count();
    // Of those that have as many, the last.
    folders.max_by_key(files).unwrap_or_else(|| dir.to_path_buf())
}

/// The values of an IDX file, plain or gzipped, after its checksum was found right.
fn read_idx(dir: &Path, file: &Idx) -> std::result::Result<Vec<u8>, DataError> {
    let path = file.find(dir).unwrap_or_else(|| dir.join(file.name));
    // One byte more than there should be is enough to see that a file is too long, however much it would unpack to.
    let mut bytes = unpacked(&path, file.size() + 1)
        .map_err(|source| DataError::Unreadable { path: path.clone(), source })?;
    check(&[&bytes], file, &path)?;
    Ok(bytes.split_off(4 * file.header.len()))
}

/// The first `limit` bytes of a file, plain or gzipped.
fn unpacked(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    check_regular(path)?;
    let mut file = BufReader::new(File::open(path)?);
    let mut bytes = vec![];
    if path.extension().is_none_or(|extension| extension != "gz") {
        file.take(limit as u64).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    // Of one member or several; zeros may fill up the file, as they do on tapes.
    while bytes.len() < limit && skip_zeros(&mut file)? {
        let left = (limit - bytes.len()) as u64;
        GzDecoder::new(&mut file).take(left).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Whether anything but zeros is left, which is read next.
fn skip_zeros(file: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let zeros = buffer.iter().take_while(|&&byte| byte == 0).count();
        let more = zeros < buffer.len();
        file.consume(zeros);
        if more {
            return Ok(true);
        }
    }
}

fn check(parts: &[&[u8]], file: &Idx, path: &Path) -> std::result::Result<(), DataError> {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let found = hex(hash.finalize().as_slice());
    match found == file.sha256 {
        true => Ok(()),
        false => Err(DataError::Checksum { path: path.to_path_buf(), expected: file.sha256, found }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Split {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The images `indices` as a network sees them: zero-padded to 32×32, then taken to `range`: (n, 1, 32, 32), f32.
    ///
    /// # Errors
    /// When an index is too large, or the device refuses the copy.
    pub fn batch(&self, indices: &[usize], range: PixelRange, device: &Device) -> Result<Tensor> {
        let mut values = vec![range.offset; indices.len() * PADDED_SIDE * PADDED_SIDE];
        for (padded, &index) in values.chunks_exact_mut(PADDED_SIDE * PADDED_SIDE).zip(indices) {
            let size = SIDE * SIDE;
            let Some(image) = self.images.get(index * size..(index + 1) * size) else {
                candle_core::bail!("image {index} is asked for, there are {}", self.len());
            };
            for (to, from) in padded.chunks_exact_mut(PADDED_SIDE).skip(MARGIN).zip(image.chunks_exact(SIDE))
            {
                for (to, &from) in to[MARGIN..].iter_mut().zip(from) {
                    *to = f32::from(from) / 255.0 * range.scale + range.offset;
                }
            }
        }
        Tensor::from_vec(values, (indices.len(), 1, PADDED_SIDE, PADDED_SIDE), &Device::Cpu)?
            .to_device(device)
    }

    /// Mean and standard deviation of all pixels, the padding included, in `range`.
    pub fn mean_and_std(&self, range: PixelRange) -> (f64, f64) {
        let count = (self.len() * PADDED_SIDE * PADDED_SIDE) as f64;
        let (mut sum, mut squares) = (0.0, 0.0);
        for &pixel in &self.images {
            let x = f64::from(pixel) / 255.0;
            sum += x;
            squares += x * x;
        }
        let mean = sum / count;
        let std = (squares / count - mean * mean).sqrt();
        (mean * f64::from(range.scale) + f64::from(range.offset), std * f64::from(range.scale))
    }
}
