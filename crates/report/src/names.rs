//! Names as pictures show them: in characters that the font has, no wider than there is room, and no two alike.

use crate::canvas::{has_glyph, text_width};
use anyhow::Result;
use std::collections::{HashMap, HashSet};

/// The most pixels of a name beside a chart: what is left is the chart's.
pub(crate) const ROOM: u32 = 560;

/// How much of a name that is cut is its beginning, in the order in which it is tried: what tells names apart may lie anywhere.
const BEGINNINGS: [f64; 5] = [0.5, 0.75, 0.25, 1.0, 0.0];

/// `names` as they are drawn at `size` pixels, each at most `room` of them wide: a longer one has … where the fewest names
/// would come out alike, and those that still do are numbered.
///
/// # Errors
/// When the font cannot be used.
pub(crate) fn shown(names: &[&str], size: u32, room: u32) -> Result<Vec<String>> {
    let spelled: Vec<String> = names.iter().map(|name| spelled(name)).collect();
    let mut best = vec![];
    let mut most = 0;
    for beginning in BEGINNINGS {
        let cut = spelled.iter().map(|name| cut(name, size, room, beginning)).collect::<Result<Vec<_>>>()?;
        let different = cut.iter().collect::<HashSet<_>>().len();
        if different > most {
            (best, most) = (cut, different);
        }
        if most == names.len() {
            return Ok(best);
        }
    }
    numbered(best, size, room)
}

/// `name` as it is drawn where there is no other: a title.
///
/// # Errors
/// When the font cannot be used.
pub(crate) fn shown_alone(name: &str, size: u32, room: u32) -> Result<String> {
    cut(&spelled(name), size, room, BEGINNINGS[0])
}

/// In characters that the font has: others are written as they sound.
fn spelled(name: &str) -> String {
    if name.chars().all(has_glyph) {
        return name.to_string();
    }
    let mut text = String::new();
    for character in name.chars() {
        match has_glyph(character) {
            true => text.push(character),
            false => text.extend(sound(character).chars().filter(|&c| has_glyph(c))),
        }
    }
    // Syllables end with a space, before another space too.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "?".to_string() } else { text }
}

fn sound(character: char) -> &'static str {
    match character.is_whitespace() {
        true => " ",
        false => deunicode::deunicode_char(character).unwrap_or("?"),
    }
}

/// At most `room` pixels wide, by … behind a part of its beginning: half of what is left of it, say.
fn cut(name: &str, size: u32, room: u32, beginning: f64) -> Result<String> {
    if text_width(name, size)? <= room {
        return Ok(name.to_string());
    }
    let characters: Vec<char> = name.chars().collect();
    let keep = |n: usize| -> String {
        let head = (n as f64 * beginning).ceil() as usize;
        let tail = &characters[characters.len() - (n - head)..];
        characters[..head].iter().chain(&['…']).chain(tail).collect()
    };
    let fits = |&n: &usize| text_width(&keep(n), size).is_ok_and(|width| width <= room);
    let lengths: Vec<usize> = (1..characters.len()).collect();
    Ok(keep(lengths.partition_point(fits)))
}

/// With a number behind the second and every later one of those that are alike.
fn numbered(names: Vec<String>, size: u32, room: u32) -> Result<Vec<String>> {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut last: HashMap<String, usize> = HashMap::new();
    let mut all = vec![];
    for name in names {
        let number = last.entry(name.clone()).or_insert(0);
        *number += 1;
        let mut shown = name.clone();
        while *number > 1 && taken.contains(&shown) {
            let behind = format!(" ({number})");
            let left = room.saturating_sub(text_width(&behind, size)?);
            shown = cut(&name, size, left, BEGINNINGS[0])? + &behind;
            *number += usize::from(taken.contains(&shown));
        }
        taken.insert(shown.clone());
        all.push(shown);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_without_a_glyph_are_written_as_they_sound() -> Result<()> {
        let names =
            ["σ ≥ ½ — ρ=7 ε̂", "北京 heun", "Эйлер 20", "🦄", "heun\u{200d}", "\u{200b}", "\u{10ffff}"];
        let shown = shown(&names, 18, ROOM)?;
        let expected = ["σ ≥ ½ — ρ=7 ε", "Bei Jing heun", "Eiler 20", "unicorn", "heun", "?", "? (2)"];
        assert_eq!(shown, expected);
        assert!((' '..='~').chain("…±−→".chars()).all(has_glyph));
        Ok(())
    }

    #[test]
    fn long_names_fit_and_differ_wherever_they_differ() -> Result<()> {
        let long = |at: usize, mark: char| -> String {
            (0..200).map(|i| if i == at { mark } else { 'm' }).collect()
        };
        for at in [0, 3, 20, 50, 100, 150, 180, 196, 199] {
            let names = [long(at, 'a'), long(at, 'b'), long(at, 'b'), "short".to_string()];
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let shown = shown(&names, 18, ROOM)?;
            assert_eq!(shown.iter().collect::<HashSet<_>>().len(), 4, "{at}: {shown:?}");
            assert_eq!(shown[3], "short");
            for name in &shown[..3] {
                assert!(name.contains('…') && text_width(name, 18)? <= ROOM, "{name}");
                assert!(text_width(name, 18)? + 40 > ROOM, "{name} is cut more than it needs to be");
            }
        }
        Ok(())
    }

    #[test]
    fn a_number_is_one_that_no_other_name_has() -> Result<()> {
        assert_eq!(shown(&["a", "a", "a (2)", "a"], 18, ROOM)?, ["a", "a (3)", "a (2)", "a (4)"]);
        Ok(())
    }
}
