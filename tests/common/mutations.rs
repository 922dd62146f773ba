//! Files changed at random, to be read or refused.

use anyhow::{Context, Result, ensure};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What stands for a number in a file that is meant ill.
const NUMBERS: [&str; 16] = [
    "NaN",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "1e99",
    "5e-324",
    "1e17",
    "100000000000000016",
    "-0",
    "0",
    "-7",
    "18446744073709551615",
    "18446744073709551616",
    "",
    "../../x",
];

/// What is no text, or none that a terminal should see.
const BYTES: [&[u8]; 6] = [&[0xff, 0xfe], &[0xc3], &[0], b"\x1b[2J", "\u{feff}".as_bytes(), b"\"\n\""];

/// A change of a file's bytes.
#[derive(Debug, Clone)]
pub enum Mutation {
    Flip(Index, u8),
    Truncate(Index),
    Duplicate(Index, usize),
    Delete(Index, usize),
    Swap(Index, Index, usize),
    Insert(Index, &'static [u8]),
    Number(Index, &'static str),
    LongNumber(Index, usize),
    Field(Index, Index),
    Headless,
    Header,
    Row(Index),
}

/// From one to three of them; numbers and fields more often, since what else is changed is seldom read.
pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let index = any::<Index>;
    let one = prop_oneof![
        2 => (index(), 1..=255u8).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        1 => index().prop_map(Mutation::Truncate),
        1 => (index(), 1..400usize).prop_map(|(at, len)| Mutation::Duplicate(at, len)),
        1 => (index(), 1..400usize).prop_map(|(at, len)| Mutation::Delete(at, len)),
        1 => (index(), index(), 1..40usize).prop_map(|(a, b, len)| Mutation::Swap(a, b, len)),
        1 => (index(), select(&BYTES[..])).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        9 => (index(), select(&NUMBERS[..])).prop_map(|(at, number)| Mutation::Number(at, number)),
        1 => (index(), 1..20_000usize).prop_map(|(at, len)| Mutation::LongNumber(at, len)),
        3 => (index(), index()).prop_map(|(from, to)| Mutation::Field(from, to)),
        1 => Just(Mutation::Headless),
        1 => Just(Mutation::Header),
        2 => index().prop_map(Mutation::Row),
    ];
    vec(one, 1..=3)
}

/// `original` after all `mutations`, one after the other.
pub fn mutated(original: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    mutations.iter().fold(original.to_vec(), |bytes, mutation| mutation.of(bytes))
}

impl Mutation {
    fn of(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        let len = bytes.len();
        let span = |at: &Index, width: usize| {
            let from = at.index(len);
            from..len.min(from + width)
        };
        match self {
            Self::Flip(at, bits) => bytes[at.index(len)] ^= bits,
            Self::Truncate(at) => bytes.truncate(at.index(len)),
            Self::Duplicate(at, width) => {
                let copied = bytes[span(at, *width)].to_vec();
                splice(&mut bytes, span(at, 0), &copied);
            }
            Self::Delete(at, width) => splice(&mut bytes, span(at, *width), b""),
            Self::Swap(a, b, width) => {
                let (a, b) = (a.index(len), b.index(len));
                for (a, b) in (a..len).zip(b..len).take(*width) {
                    bytes.swap(a, b);
                }
            }
            Self::Insert(at, inserted) => splice(&mut bytes, span(at, 0), inserted),
            Self::Number(at, number) => replace_number(&mut bytes, at, number.as_bytes()),
            Self::LongNumber(at, digits) => replace_number(&mut bytes, at, &b"7".repeat(*digits)),
            Self::Field(from, to) => {
                let fields = tokens(&bytes, b",\n");
                let field = bytes[fields[from.index(fields.len())].clone()].to_vec();
                splice(&mut bytes, fields[to.index(fields.len())].clone(), &field);
            }
            Self::Headless => {
                let header = lines(&bytes)[0].clone();
                splice(&mut bytes, header, b"");
            }
            Self::Header => repeat(&mut bytes, 0),
            Self::Row(at) => {
                let row = at.index(lines(&bytes).len());
                repeat(&mut bytes, row);
            }
        }
        bytes
    }
}

fn splice(bytes: &mut Vec<u8>, span: Range<usize>, by: &[u8]) {
    bytes.splice(span, by.iter().copied());
}

/// What stands between `separators`: at least one, which may be empty.
fn tokens(bytes: &[u8], separators: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = vec![];
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if separators.contains(byte) {
            tokens.push(from..at);
            from = at + 1;
        }
    }
    tokens.push(from..bytes.len());
    tokens
}

/// Lines with their ends.
fn lines(bytes: &[u8]) -> Vec<Range<usize>> {
    tokens(bytes, b"\n").into_iter().map(|line| line.start..bytes.len().min(line.end + 1)).collect()
}

fn repeat(bytes: &mut Vec<u8>, line: usize) {
    let line = lines(bytes)[line].clone();
    let copied = bytes[line.clone()].to_vec();
    splice(bytes, line.end..line.end, &copied);
}

fn replace_number(bytes: &mut Vec<u8>, at: &Index, by: &[u8]) {
    let is_number = |token: &Range<usize>| {
        std::str::from_utf8(&bytes[token.clone()]).is_ok_and(|text| text.parse::<f64>().is_ok())
    };
    let numbers: Vec<_> = tokens(bytes, b",\n:[]{}\" ").into_iter().filter(is_number).collect();
    if !numbers.is_empty() {
        splice(bytes, numbers[at.index(numbers.len())].clone(), by);
    }
}

/// Gives `read` mutations of `files` with their paths, and prints how many of them it read and how many it refused.
///
/// # Errors
/// What `read` failed with and the mutations that made it, shrunk; also when all were read or none.
pub fn try_mutations(
    reader: &str,
    cases: u32,
    files: &[(PathBuf, Vec<u8>)],
    read: impl Fn(&Path, &[u8]) -> Result<bool>,
) -> Result<()> {
    let cases = match std::env::var("ELUCIDATE_FUZZ_CASES") {
        Ok(cases) => cases.parse().context("ELUCIDATE_FUZZ_CASES is not a number")?,
        Err(_) => cases,
    };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let (tried, taken) = (Cell::new(0), Cell::new(0));
    let one = |(file, mutations): (Index, Vec<Mutation>)| {
        let (path, original) = &files[file.index(files.len())];
        let was_read = read(path, &mutated(original, &mutations));
        let was_read = was_read.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        tried.set(tried.get() + 1);
        taken.set(taken.get() + u32::from(was_read));
        Ok(())
    };
    // The same ones each time: whether some are read and others refused is no matter of luck.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng).run(&(any::<Index>(), mutations()), one)?;
    let (tried, taken) = (tried.get(), taken.get());
    println!("{reader}: {tried} inputs, {taken} read, {} refused", tried - taken);
    ensure!(taken > 0 && taken < tried, "{reader}: {taken} of {tried} were read");
    Ok(())
}
