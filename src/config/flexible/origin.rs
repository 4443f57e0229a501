//! Maps a position in the rendered text to the template that printed it.

use std::sync::OnceLock;

use super::input::Input;
use crate::config::template::{Rendered, place_of};
use crate::config::value::Position;

/// A place in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path of the template, as given.
    pub file: String,
    pub at: Position,
}

/// The data needed to find the origin of a position.
#[derive(Debug)]
pub(super) struct Origins {
    rendered: Rendered,
    input: Input,
    /// The offset at which each line of the rendered text starts. Only a message needs them.
    lines: OnceLock<Vec<usize>>,
}

impl Origins {
    pub(super) fn new(rendered: Rendered, input: Input) -> Origins {
        Origins {
            rendered,
            input,
            lines: OnceLock::new(),
        }
    }

    /// The origin of a position in the rendered text, which is `text` unless it was not UTF-8.
    pub(super) fn of(&self, at: Position, text: &str) -> Option<Place> {
        let text = match &*self.rendered.text {
            [] => text.as_bytes(),
            raw => raw,
        };
        let (file, offset) = self.rendered.origin(self.offset(at, text)?)?;
        let source = self.input.sources.get(file)?;
        let place = place_of(file, &source.text, offset);
        Some(Place {
            file: self.input.paths.get(file)?.clone(),
            at: Position::new(place.line, place.column),
        })
    }

    /// The byte offset of a position. Each run of bytes that are not UTF-8 counts as one character.
    fn offset(&self, at: Position, text: &[u8]) -> Option<usize> {
        let lines = self.lines.get_or_init(|| {
            let ends = memchr::memchr_iter(b'\n', text).map(|at| at + 1);
            std::iter::once(0).chain(ends).collect()
        });
        let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let mut offset = *lines.get(line)?;
        let mut left = usize::try_from(at.column).ok()?.checked_sub(1)?;
        for chunk in text[offset..].utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return Some(offset);
                }
                left -= 1;
                offset += c.len_utf8();
            }
            if left == 0 || chunk.invalid().is_empty() {
                return Some(offset);
            }
            left -= 1;
            offset += chunk.invalid().len();
        }
        Some(offset)
    }
}
