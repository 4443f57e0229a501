//! The type of a scalar without quotes and tags, as in Go's `yaml.v3`, which KrakenD uses.

use serde_saphyr::Location;

use crate::config::value::{Data, Position, Value};

/// The original text of the scalar, if it has neither quotes nor a tag.
pub(super) fn plain(at: Location, text: &str) -> Option<&str> {
    let span = at.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let written = text.get(start..end)?.trim();
    let before = text.get(..start)?.trim_end_matches(' ');
    let word = before.rsplit([' ', '\n', '\t', ',', '[', '{']).next();
    let tagged = word.is_some_and(|word| word.starts_with('!'));
    let quoted = written.starts_with(['"', '\'', '|', '>', '!']);
    (!quoted && !tagged && !is_block(text, start)).then_some(written)
}

/// Whether the text at `start` belongs to a block scalar: the line before it ends in `|` or `>`.
fn is_block(text: &str, start: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    let above = before.trim_end();
    let same_line = !before
        .get(above.len()..)
        .is_some_and(|gap| gap.contains('\n'));
    let line = above.lines().last().unwrap_or_default();
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    let word = line.rsplit([' ', '\t']).next().unwrap_or_default();
    !same_line && word.starts_with(['|', '>'])
}

/// A number that was parsed as `read`. It keeps the text of the file (`1.10`) if that is a JSON number.
pub(super) fn number(at: Position, written: Option<&str>, read: String) -> Value {
    let written = written.unwrap_or(&read);
    match integer(written) {
        Some(digits) => Value::integer(at, digits),
        None if is_json_number(written) => Value::new(at, Data::Number(written.into())),
        None => Value::new(at, Data::Number(read.into())),
    }
}

/// A string, unless Go treats it as a number or a time.
pub(super) fn text(at: Position, written: &str) -> Value {
    if !written.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::new(at, Data::Text(written.into()));
    }
    if let Some(time) = time(written) {
        return Value::new(at, Data::Text(time.into()));
    }
    match (integer(written), float(written)) {
        (Some(digits), _) => Value::integer(at, digits),
        (None, Some(number)) => Value::new(at, Data::Number(number.into())),
        (None, None) => Value::new(at, Data::Text(written.into())),
    }
}

/// A signed integer of 64 bits, or an unsigned one without a sign, as decimal digits. `_` separates digits, and a
/// leading `0` means base 8, as in YAML 1.1.
fn integer(written: &str) -> Option<String> {
    let plain = written.replace('_', "");
    let (sign, digits) = match plain.split_at_checked(1) {
        Some((sign @ ("+" | "-"), rest)) => (sign, rest),
        _ => ("", &*plain),
    };
    let based = |letter: char| {
        let rest = digits.strip_prefix('0')?;
        rest.strip_prefix(letter)
            .or_else(|| rest.strip_prefix(letter.to_ascii_uppercase()))
    };
    let (radix, digits) = match (based('x'), based('o'), based('b')) {
        (Some(rest), _, _) => (16, rest),
        (_, Some(rest), _) => (8, rest),
        (_, _, Some(rest)) => (2, rest),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    let value = if sign == "-" { -size } else { size };
    let signed = i64::try_from(value).is_ok();
    let unsigned = sign.is_empty() && u64::try_from(value).is_ok();
    (signed || unsigned).then(|| value.to_string())
}

/// A float as a JSON number: digits with at most one point, and an exponent.
fn float(written: &str) -> Option<String> {
    let plain = written.replace('_', "");
    if is_json_number(&plain) {
        return Some(plain);
    }
    let shaped = plain
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    let number: f64 = plain.parse().ok().filter(|_| shaped)?;
    number.is_finite().then(|| number.to_string())
}

fn is_json_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// A date, or a date and a time, in RFC 3339 format.
fn time(written: &str) -> Option<String> {
    let (date, clock) = match written.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (written, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year: u32 = count(year, 4..=4)?;
    let month = count(month, 1..=2).filter(|month| (1..=12).contains(month))?;
    let day = count(day, 1..=2).filter(|day| (1..=days(year, month)).contains(day))?;
    if parts.next().is_some() {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    let Some(clock) = clock else {
        return Some(date + "T00:00:00Z");
    };
    let (clock, zone) = match (written.contains(' '), clock.find(['Z', '+', '-'])) {
        (false, Some(at)) => (clock.get(..at)?, clock.get(at..)?),
        (true, None) => (clock, "Z"),
        _ => return None,
    };
    Some(format!(
        "{date}T{}{}",
        self::clock(clock)?,
        self::zone(zone)?
    ))
}

/// Converts `3:4:5.60` to `03:04:05.6`.
fn clock(text: &str) -> Option<String> {
    let (text, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = text.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let hour = count(hour, 1..=2).filter(|hour| *hour < 24)?;
    let minute = count(minute, 1..=2).filter(|minute| *minute < 60)?;
    let second = count(second, 1..=2).filter(|second| *second < 60)?;
    count(fraction, 1..=9)?;
    if parts.next().is_some() {
        return None;
    }
    let clock = format!("{hour:02}:{minute:02}:{second:02}");
    Some(match fraction.trim_end_matches('0') {
        "" => clock,
        fraction => format!("{clock}.{fraction}"),
    })
}

/// `Z`, or hours and minutes from UTC.
fn zone(text: &str) -> Option<&str> {
    if text == "Z" {
        return Some(text);
    }
    let (hour, minute) = text.get(1..)?.split_once(':')?;
    count(hour, 2..=2).filter(|hour| *hour < 24)?;
    count(minute, 2..=2).filter(|minute| *minute < 60)?;
    Some(match text.get(1..) {
        Some("00:00") => "Z",
        _ => text,
    })
}

/// A number with this many digits.
fn count(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| all && digits.contains(&text.len()))
}

fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}
