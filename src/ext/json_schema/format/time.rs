//! Dates, times of day, and durations.

use super::super::quote;
use super::{Reason, digits, err, within};

pub(super) fn date(text: &str) -> Result<(), Reason> {
    let mut rest = text;
    let year = number(text, &mut rest, 4, "2006")?;
    dash(text, &mut rest)?;
    let month = number(text, &mut rest, 2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(told(text, "month out of range"));
    }
    dash(text, &mut rest)?;
    let day = number(text, &mut rest, 2, "02")?;
    if !rest.is_empty() {
        return Err(told(text, &format!("extra text: {}", quote::double(rest))));
    }
    if (1..=days(year, month)).contains(&day) {
        Ok(())
    } else {
        Err(told(text, "day out of range"))
    }
}

fn told(text: &str, what: &str) -> Reason {
    format!("parsing time {}: {what}", quote::double(text)).into()
}

fn number(text: &str, rest: &mut &str, length: usize, like: &str) -> Result<u32, Reason> {
    let found = rest
        .split_at_checked(length)
        .filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|(number, after)| Some((number.parse().ok()?, after)));
    let (number, after) = found.ok_or_else(|| unparsed(text, rest, like))?;
    *rest = after;
    Ok(number)
}

fn dash(text: &str, rest: &mut &str) -> Result<(), Reason> {
    *rest = rest
        .strip_prefix('-')
        .ok_or_else(|| unparsed(text, rest, "-"))?;
    Ok(())
}

fn unparsed(text: &str, rest: &str, like: &str) -> Reason {
    format!(
        "parsing time {} as \"2006-01-02\": cannot parse {} as \"{like}\"",
        quote::double(text),
        quote::double(rest)
    )
    .into()
}

fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

pub(super) fn time(text: &str) -> Result<(), Reason> {
    if text.len() < 9 {
        return err("less than 9 characters long");
    }
    let bytes = text.as_bytes();
    if bytes.get(2) != Some(&b':') || bytes.get(5) != Some(&b':') {
        return err("missing colon in correct place");
    }
    let (hour, minute, second) = match (pair(text, 0), pair(text, 3), pair(text, 6)) {
        (Some(hour), Some(minute), Some(second)) => (hour, minute, second),
        _ => return err("invalid hour/min/sec"),
    };
    if hour < 0 || minute < 0 || second < 0 {
        return err("non-positive hour/min/sec");
    }
    if hour > 23 || minute > 59 || second > 60 {
        return err("hour/min/sec out of range");
    }
    let zone = fraction(text.get(8..).unwrap_or_default())?;
    let minutes = (hour * 60 + minute - offset(zone)?).rem_euclid(24 * 60);
    if second == 60 && minutes != 23 * 60 + 59 {
        err("invalid leap second")
    } else {
        Ok(())
    }
}

/// The number in two characters.
fn pair(text: &str, at: usize) -> Option<i32> {
    text.get(at..at + 2)?.parse().ok()
}

/// The text after an optional fraction of a second.
fn fraction(text: &str) -> Result<&str, Reason> {
    let Some(fraction) = text.strip_prefix('.') else {
        return Ok(text);
    };
    match digits(fraction) {
        ("", _) => err("no digits in second fraction"),
        (_, rest) => Ok(rest),
    }
}

/// The offset from UTC in minutes.
fn offset(zone: &str) -> Result<i32, Reason> {
    if matches!(zone, "z" | "Z") {
        return Ok(0);
    }
    if zone.len() != 6 {
        return err("offset must be 6 characters long");
    }
    let sign = match zone.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return err("offset must begin with plus/minus"),
    };
    if zone.as_bytes().get(3) != Some(&b':') {
        return err("missing colon in offset in correct place");
    }
    match (pair(zone, 1), pair(zone, 4)) {
        (Some(hour), Some(minute)) if hour < 0 || minute < 0 => {
            err("non-positive hour/min in offset")
        }
        (Some(hour), Some(minute)) if hour > 23 || minute > 59 => {
            err("hour/min in offset out of range")
        }
        (Some(hour), Some(minute)) => Ok(sign * (hour * 60 + minute)),
        _ => err("invalid hour/min in offset"),
    }
}

pub(super) fn date_time(text: &str) -> Result<(), Reason> {
    if text.len() < 20 {
        return err("less than 20 characters long");
    }
    if !matches!(text.as_bytes().get(10), Some(b't' | b'T')) {
        return err("11th character must be t or T");
    }
    let (day, hour) = (text.get(..10), text.get(11..));
    within("invalid date element", date(day.unwrap_or_default()))?;
    within("invalid time element", time(hour.unwrap_or_default()))
}

pub(super) fn duration(text: &str) -> Result<(), Reason> {
    let Some(text) = text.strip_prefix('P') else {
        return err("must start with P");
    };
    if text.is_empty() {
        return err("nothing after P");
    }
    if let Some(weeks) = text.strip_suffix('W') {
        return match digits(weeks) {
            ("", "") => err("no number in week"),
            (_, "") => Ok(()),
            _ => err("invalid week"),
        };
    }
    let mut halves = text.split('T');
    parts(halves.next().unwrap_or_default(), "YMD")?;
    match (halves.next(), halves.next()) {
        (Some(""), _) => err("no time elements"),
        (Some(time), None) => parts(time, "HMS"),
        (Some(time), Some(more)) => {
            parts(time, "HMS")?;
            match more {
                "" => err("no time elements"),
                _ => err("more than one T"),
            }
        }
        (None, _) => Ok(()),
    }
}

/// Numbers, each followed by a unit. Units must be in order.
fn parts(mut text: &str, all: &str) -> Result<(), Reason> {
    let mut units = all;
    while !text.is_empty() {
        let (number, rest) = digits(text);
        if number.is_empty() {
            return err("missing number");
        }
        let Some(unit) = rest.chars().next() else {
            return err("missing unit");
        };
        let Some((_, left)) = units.split_once(unit) else {
            let what = if all.contains(unit) {
                format!("unit {} out of order", quote::letter(unit))
            } else {
                format!("invalid unit {}", quote::letter(unit))
            };
            return Err(what.into());
        };
        units = left;
        text = rest.get(unit.len_utf8()..).unwrap_or_default();
    }
    Ok(())
}

pub(super) fn period(text: &str) -> Result<(), Reason> {
    let Some((start, end)) = text.split_once('/') else {
        return err("missing slash");
    };
    match (start.starts_with('P'), end.starts_with('P')) {
        (true, _) => {
            within("invalid start duration", duration(start))?;
            within("invalid end date-time", date_time(end))
        }
        (false, true) => {
            within("invalid start date-time", date_time(start))?;
            within("invalid end duration", duration(end))
        }
        (false, false) => {
            within("invalid start date-time", date_time(start))?;
            within("invalid end date-time", date_time(end))
        }
    }
}
