//! Durations in Go's notation: `"1.5s"`, `"1h2m3s"`, `"300ms"`.

use std::time::Duration;

const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5
    ("μs", 1_000), // U+03BC
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("invalid duration")]
    Invalid,
    #[error("missing unit in duration")]
    MissingUnit,
    #[error("unknown unit")]
    UnknownUnit,
    #[error("a duration cannot be negative")]
    Negative,
    #[error("out of range")]
    OutOfRange,
}

impl DurationError {
    /// The text of the error, without an allocation.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            DurationError::Invalid => "invalid duration",
            DurationError::MissingUnit => "missing unit in duration",
            DurationError::UnknownUnit => "unknown unit",
            DurationError::Negative => "a duration cannot be negative",
            DurationError::OutOfRange => "out of range",
        }
    }
}

/// Parses an optional sign and one or more decimal numbers, each with a unit. Only `0` needs no unit.
///
/// # Errors
/// Any other text, negative values, and values above 2^63-1 nanoseconds (292 years).
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Invalid);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = part(rest)?;
        total = total
            .checked_add(nanos)
            .filter(|sum| *sum <= i64::MAX as u64)
            .ok_or(DurationError::OutOfRange)?;
        rest = after;
    }
    if negative && total > 0 {
        return Err(DurationError::Negative);
    }
    Ok(Duration::from_nanos(total))
}

/// Prints a duration so that [`parse`] returns the same one: `1h2m3.5s`, `300ms`, `0s`.
pub(crate) fn print(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, name) = match nanos {
            n if n < 1_000 => (1, "ns"),
            n if n < 1_000_000 => (1_000, "us"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
    let seconds = nanos % 60_000_000_000;
    let mut out = String::new();
    if hours > 0 {
        out.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        out.push_str(&format!("{minutes}m"));
    }
    out.push_str(&format!("{}s", decimal(seconds, 1_000_000_000)));
    out
}

fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, mut rest) = (nanos / unit, nanos % unit);
    let mut out = whole.to_string();
    if rest > 0 {
        out.push('.');
        let mut scale = unit / 10;
        while rest > 0 {
            out.push(char::from(b'0' + (rest / scale) as u8));
            rest %= scale;
            scale = (scale / 10).max(1);
        }
    }
    out
}

/// One number with its unit, in nanoseconds, and the rest.
fn part(text: &str) -> Result<(u64, &str), DurationError> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => after.split_at(digits(after)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Invalid);
    }
    let end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    if unit.is_empty() {
        return Err(DurationError::MissingUnit);
    }
    let scale = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale)
        .ok_or(DurationError::UnknownUnit)?;
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| DurationError::OutOfRange)?,
    };
    let nanos = whole
        .checked_mul(scale)
        .and_then(|nanos| nanos.checked_add(fraction_of(fraction, scale)))
        .ok_or(DurationError::OutOfRange)?;
    Ok((nanos, rest))
}

/// `0.fraction` of `scale`. Digits after the 15th are below a nanosecond and are dropped.
fn fraction_of(fraction: &str, scale: u64) -> u64 {
    let mut value: u128 = 0;
    let mut divisor: u128 = 1;
    for digit in fraction.bytes().take(15) {
        value = value * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    (value * u128::from(scale) / divisor) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_spellings_of_krakend_are_parsed() {
        for (text, nanos) in [
            ("1.5s", 1_500_000_000),
            ("1h2m3s", 3_723_000_000_000),
            ("300ms", 300_000_000),
            ("500000us", 500_000_000),
            ("2µs", 2_000),
            ("0", 0),
            ("+1s", 1_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_rejected() {
        for (text, error) in [
            ("", DurationError::Invalid),
            ("3", DurationError::MissingUnit),
            ("20", DurationError::MissingUnit),
            ("1d", DurationError::UnknownUnit),
            (" 1s", DurationError::Invalid),
            ("1s ", DurationError::UnknownUnit),
            ("2 sec", DurationError::UnknownUnit),
            ("abc", DurationError::Invalid),
            ("-1s", DurationError::Negative),
            (".s", DurationError::Invalid),
            ("99999999999h", DurationError::OutOfRange),
            ("-", DurationError::Invalid),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_parses_back(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
        }

        #[test]
        fn arbitrary_text_is_parsed_or_rejected_without_a_panic(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
