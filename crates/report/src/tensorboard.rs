//! Event files of TensorBoard.

use crate::files::{create_dir, read_file};
use anyhow::{Context, Result, ensure};
use prost::Message;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What TensorBoard takes for an event file's name, and reads in the order of.
const NAME: &str = "events.out.tfevents";

/// `tensorflow.SessionLog.SessionStatus.START`.
const START: i32 = 1;

/// `tensorflow.Event`, as far as it is used here (tensorboard/compat/proto/event.proto).
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// `tensorflow.Summary` (tensorboard/compat/proto/summary.proto).
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Figure", tags = "2, 4")]
    value: Option<Figure>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Figure {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 1 grey, 3 RGB.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// One session's event file: TensorBoard shows it while it grows.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in `folder`, which is made, and the folder around it, behind those of earlier sessions. What these wrote at `step` and
    /// after it has not happened: Python's reader leaves it out, and TensorBoard's page as soon as something is written there again.
    ///
    /// # Errors
    /// When the folder or the file cannot be made or written.
    pub fn begin(folder: &Path, step: usize) -> Result<Self> {
        // No further: a run's folder that was deleted meanwhile is not made again.
        folder.parent().map_or(Ok(()), create_dir)?;
        create_dir(folder)?;
        let number = |path: &PathBuf| path.extension()?.to_str()?.parse::<u64>().ok();
        let last = sessions(folder)?.iter().filter_map(number).max();
        // The number alone orders them: a clock may be put back.
        let path = folder.join(format!("{NAME}.{:04}", last.map_or(0, |last| last + 1)));
        let file = File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut events = Self { path, file };
        events.write(0, What::FileVersion("brain.Event:2".into()))?;
        if last.is_some() {
            events.write(step, What::SessionLog(SessionLog { status: START }))?;
        }
        Ok(events)
    }

    /// Figures at a step, each under its tag, in one record; they are kept in f32.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, step: usize, figures: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f64)| Value {
            tag: tag.to_string(),
            value: Some(Figure::SimpleValue(value as f32)),
        };
        self.write(step, What::Summary(Summary { value: figures.iter().map(value).collect() }))
    }

    /// A PNG file's picture at a step.
    ///
    /// # Errors
    /// When the picture is damaged, or the file cannot be written.
    pub fn png(&mut self, tag: &str, step: usize, picture: Vec<u8>) -> Result<()> {
        let header = png::Decoder::new(std::io::Cursor::new(&picture)).read_info()?;
        let (width, height) = header.info().size();
        let colorspace = header.info().color_type.samples() as i32;
        let (height, width) = (height as i32, width as i32);
        let image = Image { height, width, colorspace, encoded_image_string: picture };
        let value = Value { tag: tag.to_string(), value: Some(Figure::Image(image)) };
        self.write(step, What::Summary(Summary { value: vec![value] }))
    }

    /// Has the system write it to the disk: it is not behind a checkpoint that is there.
    ///
    /// # Errors
    /// When it cannot.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| self.unwritable())
    }

    fn unwritable(&self) -> String {
        format!("cannot write {}", self.path.display())
    }

    /// Appends a record, in one piece: a process that is killed leaves whole ones, but
    /// for the last.
    fn write(&mut self, step: usize, what: What) -> Result<()> {
        let event = Event { wall_time: now(), step: step as i64, what: Some(what) };
        self.file.write_all(&event.record()).with_context(|| self.unwritable())
    }
}

impl Event {
    /// It as it stands in a file (tensorflow/core/lib/io/record_writer.h).
    fn record(&self) -> Vec<u8> {
        let event = self.encode_to_vec();
        let length = (event.len() as u64).to_le_bytes();
        [&length, &checksum(&length)[..], &event, &checksum(&event)].concat()
    }
}

/// The scalars that TensorBoard shows of the event files in `folder`, by tag: (step, value) in order. A record that a killed
/// process left half written ends its file.
///
/// # Errors
/// When a file cannot be read, or a whole record is damaged.
pub fn read_scalars(folder: &Path) -> Result<BTreeMap<String, Vec<(usize, f32)>>> {
    let damaged = |path: &Path| format!("{} is damaged", path.display());
    let mut scalars: BTreeMap<String, Vec<(usize, f32)>> = BTreeMap::new();
    for path in sessions(folder)? {
        let bytes = read_file(&path)?;
        let mut rest = bytes.as_slice();
        while let Some((event, behind)) = next_event(rest).with_context(|| damaged(&path))? {
            rest = behind;
            let step = event.step as usize;
            match event.what {
                Some(What::SessionLog(SessionLog { status: START })) => {
                    scalars.values_mut().for_each(|points| points.retain(|point| point.0 < step));
                }
                Some(What::Summary(Summary { value })) => {
                    for Value { tag, value } in value {
                        if let Some(Figure::SimpleValue(value)) = value {
                            scalars.entry(tag).or_default().push((step, value));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(scalars)
}

/// The first event of `bytes` and what is behind it; none where it is not whole.
fn next_event(bytes: &[u8]) -> Result<Option<(Event, &[u8])>> {
    const AROUND: usize = 16;
    let Some((length, _)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    if bytes.len().saturating_sub(AROUND) < length {
        return Ok(None);
    }
    let (record, behind) = bytes.split_at(length + AROUND);
    let (data, of_data) = record[12..].split_at(length);
    ensure!(record[8..12] == checksum(&record[..8]) && of_data == checksum(data), "a checksum is wrong");
    Ok(Some((Event::decode(data)?, behind)))
}

/// The event files in `folder`, in the order of their sessions.
fn sessions(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read {}", folder.display());
    let mut files = vec![];
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// CRC-32C, rotated and moved as records have it: a CRC of data that holds CRCs says little.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_what_tensorboard_writes() -> Result<()> {
        // Made by tests/fixtures/tensorboard/make.py.
        const THEIRS: &[u8] = include_bytes!("../../../tests/fixtures/tensorboard/events.out.tfevents.0000");
        let figure = |tag: &str, value| Value { tag: tag.into(), value: Some(value) };
        let (_, image) = THEIRS.split_at(THEIRS.len() - 4 - 67);
        let encoded_image_string = image[..67].to_vec();
        let image = Image { height: 1, width: 1, colorspace: 1, encoded_image_string };
        let scalars =
            vec![figure("loss/train", Figure::SimpleValue(0.25)), figure("lr", Figure::SimpleValue(1e-3))];
        let pictures = vec![figure("samples", Figure::Image(image))];
        let events = [
            (1.5, 0, What::FileVersion("brain.Event:2".into())),
            (2.5, 7, What::SessionLog(SessionLog { status: START })),
            (3.5, 300, What::Summary(Summary { value: scalars })),
            (4.5, 300, What::Summary(Summary { value: pictures })),
        ];
        let ours = events.map(|(wall_time, step, what)| Event { wall_time, step, what: Some(what) }.record());
        assert_eq!(ours.concat(), THEIRS);
        Ok(())
    }

    #[test]
    fn a_later_session_takes_back_what_has_not_happened() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut first = EventFile::begin(folder.path(), 0)?;
        (0..5).try_for_each(|step| first.scalars(step, &[("loss", step as f64)]))?;
        let mut second = EventFile::begin(folder.path(), 3)?;
        second.scalars(3, &[("loss", 30.0)])?;
        second.scalars(1, &[("fid/heun steps=18", 0.1)])?;
        let shown = || read_scalars(folder.path());
        let loss = vec![(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)];
        let expected = |loss| [("fid/heun steps=18".into(), vec![(1, 0.1)]), ("loss".into(), loss)].into();
        assert_eq!(shown()?, expected(loss));

        // Killed in the middle of a record, it is followed by another session all the same.
        let bytes = fs::read(&first.path)?;
        fs::write(&first.path, &bytes[..bytes.len() - 3])?;
        fs::write(&second.path, &fs::read(&second.path)?[..100])?;
        EventFile::begin(folder.path(), 1)?.scalars(1, &[("loss", 10.0)])?;
        assert_eq!(shown()?["loss"], [(0, 0.0), (1, 10.0)]);

        // A record that is whole and wrong is told of.
        let mut bytes = bytes;
        bytes[20] ^= 1;
        fs::write(&first.path, bytes)?;
        let error = format!("{:#}", shown().expect_err("it is damaged"));
        assert!(error.contains(".0000 is damaged: a checksum is wrong"), "{error}");
        Ok(())
    }
}
