//! Lua 5.1 patterns (§5.4.1 of its manual) with limits: Lua's own matcher has no time limit, and may exhaust the
//! stack.

/// As in Lua.
const MAX_CAPTURES: usize = 32;
/// As in Lua since 5.2.
const MAX_DEPTH: u32 = 200;
/// Steps between two checks of the clock.
const STEPS_PER_LOOK: u32 = 1 << 14;

/// Why a search has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    #[error("malformed pattern (ends with '%')")]
    Percent,
    #[error("malformed pattern (missing ']')")]
    Bracket,
    #[error("unbalanced pattern")]
    Balance,
    #[error("missing '[' after '%f' in pattern")]
    Frontier,
    #[error("invalid pattern capture")]
    Capture,
    #[error("invalid capture index")]
    Index,
    #[error("too many captures")]
    Captures,
    #[error("pattern too complex")]
    Complex,
    /// The deadline has passed.
    #[error("the search took too long")]
    Late,
}

/// The text of a pair of parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// Start and end, in bytes from 0.
    Text(usize, usize),
    /// `()`: its position, from 0.
    Position(usize),
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Open,
    Position,
    Bytes(usize),
}

/// One search.
pub struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    anchored: bool,
    captures: Vec<(usize, Length)>,
    depth: u32,
    steps: u32,
    /// Called from time to time. The search stops when it returns true.
    is_late: &'a mut dyn FnMut() -> bool,
}

type Found = Result<Option<usize>, MatchError>;

impl<'a> Matcher<'a> {
    /// A search for `pattern` in `text` that stops when `is_late` returns true.
    pub fn new(
        text: &'a [u8],
        pattern: &'a [u8],
        is_late: &'a mut dyn FnMut() -> bool,
    ) -> Matcher<'a> {
        let anchored = pattern.first() == Some(&b'^');
        Matcher {
            text,
            pattern: &pattern[usize::from(anchored)..],
            anchored,
            captures: Vec::new(),
            depth: 0,
            steps: 0,
            is_late,
        }
    }

    /// A search where a `^` at the beginning of `pattern` is an ordinary character.
    #[must_use]
    pub fn without_anchor(self, pattern: &'a [u8]) -> Matcher<'a> {
        Matcher {
            pattern,
            anchored: false,
            ..self
        }
    }

    /// Whether the pattern matches only at the start of a search.
    pub fn is_anchored(&self) -> bool {
        self.anchored
    }

    /// The start and end of the first match at or after `from`.
    ///
    /// # Errors
    /// The pattern is invalid, or the search takes too long.
    pub fn find(&mut self, from: usize) -> Result<Option<(usize, usize)>, MatchError> {
        for start in from..=self.text.len() {
            if let Some(end) = self.at(start)? {
                return Ok(Some((start, end)));
            }
            if self.anchored {
                break;
            }
        }
        Ok(None)
    }

    /// The end of the match that begins at `start`.
    ///
    /// # Errors
    /// See [`Matcher::find`].
    pub fn at(&mut self, start: usize) -> Found {
        self.captures.clear();
        self.depth = 0;
        self.go(start, 0)
    }

    /// The captures of the last match.
    ///
    /// # Errors
    /// A capture was opened and never closed.
    pub fn captured(&self) -> Result<Vec<Capture>, MatchError> {
        let whole = |(start, length): &(usize, Length)| match length {
            Length::Open => Err(MatchError::Capture),
            Length::Position => Ok(Capture::Position(*start)),
            Length::Bytes(length) => Ok(Capture::Text(*start, start + length)),
        };
        self.captures.iter().map(whole).collect()
    }

    fn go(&mut self, at: usize, item: usize) -> Found {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(MatchError::Complex);
        }
        let found = self.items(at, item);
        self.depth -= 1;
        found
    }

    /// Matches the items from `item` on at `at`. It recurses only if there are several alternatives.
    fn items(&mut self, mut at: usize, mut item: usize) -> Found {
        loop {
            self.step()?;
            let next = self.pattern.get(item + 1).copied();
            match (self.pattern.get(item).copied(), next) {
                (None, _) => return Ok(Some(at)),
                (Some(b'('), Some(b')')) => return self.open(at, item + 2, Length::Position),
                (Some(b'('), _) => return self.open(at, item + 1, Length::Open),
                (Some(b')'), _) => return self.close(at, item + 1),
                (Some(b'$'), None) => return Ok((at == self.text.len()).then_some(at)),
                (Some(b'%'), Some(b'b')) => match self.balanced(at, item + 2)? {
                    Some(end) => (at, item) = (end, item + 4),
                    None => return Ok(None),
                },
                (Some(b'%'), Some(b'f')) => {
                    item += 2;
                    if self.pattern.get(item) != Some(&b'[') {
                        return Err(MatchError::Frontier);
                    }
                    let end = self.item_end(item)?;
                    let before = at.checked_sub(1).and_then(|at| self.text.get(at));
                    let (before, here) = (before.copied(), self.text.get(at).copied());
                    let set = &self.pattern[item..end];
                    if in_set(before.unwrap_or(0), set) || !in_set(here.unwrap_or(0), set) {
                        return Ok(None);
                    }
                    item = end;
                }
                (Some(b'%'), Some(digit)) if digit.is_ascii_digit() => {
                    match self.again(at, digit)? {
                        Some(end) => (at, item) = (end, item + 2),
                        None => return Ok(None),
                    }
                }
                _ => {
                    let end = self.item_end(item)?;
                    let fits = self.fits(at, item, end);
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if fits && let Some(found) = self.go(at + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            item = end + 1;
                        }
                        Some(b'*') => return self.most(at, item, end),
                        Some(b'+') if fits => return self.most(at + 1, item, end),
                        Some(b'-') => return self.least(at, item, end),
                        Some(b'+') => return Ok(None),
                        _ if !fits => return Ok(None),
                        _ => (at, item) = (at + 1, end),
                    }
                }
            }
        }
    }

    /// As many repetitions as possible, then fewer.
    fn most(&mut self, at: usize, item: usize, end: usize) -> Found {
        let mut count = 0;
        while self.fits(at + count, item, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if let Some(found) = self.go(at + count, end + 1)? {
                return Ok(Some(found));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// No repetition, then more.
    fn least(&mut self, mut at: usize, item: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.go(at, end + 1)? {
                return Ok(Some(found));
            }
            if !self.fits(at, item, end) {
                return Ok(None);
            }
            at += 1;
        }
    }

    fn open(&mut self, at: usize, item: usize, length: Length) -> Found {
        if self.captures.len() >= MAX_CAPTURES {
            return Err(MatchError::Captures);
        }
        let before = self.captures.len();
        self.captures.push((at, length));
        let found = self.go(at, item)?;
        if found.is_none() {
            self.captures.truncate(before);
        }
        Ok(found)
    }

    fn close(&mut self, at: usize, item: usize) -> Found {
        let last = self
            .captures
            .iter()
            .rposition(|(_, length)| matches!(length, Length::Open));
        let last = last.ok_or(MatchError::Capture)?;
        self.set_length(last, |start| Length::Bytes(at - start));
        let found = self.go(at, item)?;
        if found.is_none() {
            self.set_length(last, |_| Length::Open);
        }
        Ok(found)
    }

    fn set_length(&mut self, index: usize, length: impl Fn(usize) -> Length) {
        if let Some((start, old)) = self.captures.get_mut(index) {
            *old = length(*start);
        }
    }

    /// `%bxy`: from an x to the matching y.
    fn balanced(&mut self, at: usize, item: usize) -> Found {
        let (Some(open), Some(close)) = (self.pattern.get(item), self.pattern.get(item + 1)) else {
            return Err(MatchError::Balance);
        };
        let (open, close) = (*open, *close);
        if self.text.get(at) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1_usize;
        let text = self.text;
        for (offset, byte) in text.iter().enumerate().skip(at + 1) {
            self.step()?;
            if *byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(offset + 1));
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%1`: the text of an earlier capture, again.
    fn again(&mut self, at: usize, digit: u8) -> Found {
        let index = usize::from(digit)
            .checked_sub(usize::from(b'1'))
            .ok_or(MatchError::Index)?;
        let Some((start, Length::Bytes(length))) = self.captures.get(index) else {
            return Err(MatchError::Index);
        };
        let (start, length) = (*start, *length);
        self.steps(length)?;
        let caught = &self.text[start..start + length];
        let end = at + length;
        Ok((self.text.get(at..end) == Some(caught)).then_some(end))
    }

    /// The end of the single character or set at `item`.
    fn item_end(&self, item: usize) -> Result<usize, MatchError> {
        let mut end = item + 1;
        match self.pattern.get(item) {
            Some(b'%') => match self.pattern.get(end) {
                None => Err(MatchError::Percent),
                Some(_) => Ok(end + 1),
            },
            Some(b'[') => {
                if self.pattern.get(end) == Some(&b'^') {
                    end += 1;
                }
                // A ] at the beginning is a member of the set.
                let first = end;
                loop {
                    match self.pattern.get(end) {
                        None => return Err(MatchError::Bracket),
                        Some(b']') if end > first => return Ok(end + 1),
                        Some(b'%') if self.pattern.get(end + 1).is_some() => end += 2,
                        Some(_) => end += 1,
                    }
                }
            }
            _ => Ok(end),
        }
    }

    /// Whether the character at `at` matches the single character or set from `item` to `end`.
    fn fits(&self, at: usize, item: usize, end: usize) -> bool {
        let Some(&byte) = self.text.get(at) else {
            return false;
        };
        match self.pattern.get(item..end) {
            Some([b'.']) => true,
            Some([b'%', class]) => in_class(byte, *class),
            Some(set @ [b'[', ..]) => in_set(byte, set),
            Some([one]) => byte == *one,
            _ => false,
        }
    }

    fn step(&mut self) -> Result<(), MatchError> {
        self.steps(1)
    }

    /// Counts the bytes that are read at once.
    fn steps(&mut self, bytes: usize) -> Result<(), MatchError> {
        let steps = u32::try_from(bytes).unwrap_or(STEPS_PER_LOOK);
        self.steps = self.steps.saturating_add(steps);
        if self.steps < STEPS_PER_LOOK {
            return Ok(());
        }
        self.steps = 0;
        if (self.is_late)() {
            Err(MatchError::Late)
        } else {
            Ok(())
        }
    }
}

/// Whether `byte` is in `set`, which includes its brackets.
fn in_set(byte: u8, set: &[u8]) -> bool {
    let inner = set
        .strip_prefix(b"[")
        .and_then(|set| set.strip_suffix(b"]"))
        .unwrap_or_default();
    let (inner, wanted) = match inner.strip_prefix(b"^") {
        Some(rest) => (rest, false),
        None => (inner, true),
    };
    let mut rest = inner;
    loop {
        let (is_in, tail) = match rest {
            [] => return !wanted,
            [b'%', class, tail @ ..] => (in_class(byte, *class), tail),
            [low, b'-', high, tail @ ..] => ((*low..=*high).contains(&byte), tail),
            [one, tail @ ..] => (*one == byte, tail),
        };
        if is_in {
            return wanted;
        }
        rest = tail;
    }
}

/// `%a`, `%A`, …. After a percent sign any other character means itself. ASCII, as in Lua's C locale.
fn in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        // Unlike in Rust, white space in C includes the vertical tab.
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return byte == class,
    };
    is_in != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests;
