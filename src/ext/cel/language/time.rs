//! Timestamps and durations.

use std::time::Duration;

use chrono::{
    DateTime, Datelike, FixedOffset, NaiveDateTime, SecondsFormat, TimeDelta, Timelike, Utc,
};
use chrono_tz::Tz;

use super::eval::Failed;
use super::operators::overflow;
use super::tree::{Function, Part};
use super::value::Value;

type Given<'a> = Result<Value<'a>, Failed>;

/// `now` for expressions: RFC 3339 in UTC with milliseconds, without trailing zeros.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    let time = i64::try_from(since_epoch.as_millis())
        .ok()
        .and_then(DateTime::<Utc>::from_timestamp_millis)
        .unwrap_or_default();
    trimmed(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

pub(super) fn nano_text(time: &DateTime<Utc>) -> String {
    trimmed(&time.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

/// The same text without zeros at the end of its fraction.
fn trimmed(text: &str) -> String {
    match text.strip_suffix('Z') {
        Some(text) if text.contains('.') => {
            let text = text.trim_end_matches('0').trim_end_matches('.');
            format!("{text}Z")
        }
        _ => text.to_owned(),
    }
}

/// A duration as cel-go formats it: `1.5s`.
pub(super) fn seconds_text(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (whole, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    match part {
        0 => format!("{sign}{whole}s"),
        part => {
            let fraction = format!("{part:09}");
            format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
        }
    }
}

fn checked<'a>(time: DateTime<Utc>) -> Given<'a> {
    match time.year() {
        1..=9999 => Ok(Value::Timestamp(time)),
        _ => Err(overflow("timestamp")),
    }
}

pub(super) fn of_seconds<'a>(seconds: i64) -> Given<'a> {
    DateTime::from_timestamp(seconds, 0)
        .ok_or_else(|| overflow("timestamp"))
        .and_then(checked)
}

pub(super) fn parse<'a>(text: &str) -> Given<'a> {
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|_| Failed::of("invalid timestamp: RFC 3339 is expected"))?;
    checked(time.to_utc())
}

/// Parses a duration as Go does (`1h30m`, `-1.5s`, `0`), in nanoseconds.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let (unit, tail) = unit(tail)?;
        total = total.checked_add(amount(number, unit)?)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn unit(text: &str) -> Option<(i128, &str)> {
    const UNITS: [(&str, i128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS
        .iter()
        .find_map(|(name, nanos)| text.strip_prefix(name).map(|rest| (*nanos, rest)))
}

fn amount(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut total = match whole {
        "" => 0,
        digits => i128::from(digits.parse::<i64>().ok()?).checked_mul(unit)?,
    };
    let mut scale = unit;
    // Eighteen digits are finer than a nanosecond, even in the largest unit.
    for digit in fraction.bytes().take(18) {
        scale /= 10;
        total += scale * i128::from(digit - b'0');
    }
    Some(total)
}

/// `+` and `-` of timestamps and durations.
pub(super) fn arithmetic<'a>(function: Function, a: &Value<'a>, b: &Value<'a>) -> Given<'a> {
    match (function, a, b) {
        (Function::Add, Value::Timestamp(time), Value::Duration(nanos))
        | (Function::Add, Value::Duration(nanos), Value::Timestamp(time)) => {
            shifted(*time, Some(*nanos))
        }
        (Function::Subtract, Value::Timestamp(time), Value::Duration(nanos)) => {
            shifted(*time, nanos.checked_neg())
        }
        (Function::Subtract, Value::Timestamp(a), Value::Timestamp(b)) => (*a - *b)
            .num_nanoseconds()
            .map(Value::Duration)
            .ok_or_else(|| overflow("duration")),
        (Function::Add, Value::Duration(a), Value::Duration(b)) => a
            .checked_add(*b)
            .map(Value::Duration)
            .ok_or_else(|| overflow("duration")),
        (Function::Subtract, Value::Duration(a), Value::Duration(b)) => a
            .checked_sub(*b)
            .map(Value::Duration)
            .ok_or_else(|| overflow("duration")),
        _ => Err(Failed::NO_OVERLOAD),
    }
}

fn shifted<'a>(time: DateTime<Utc>, nanos: Option<i64>) -> Given<'a> {
    nanos
        .and_then(|nanos| time.checked_add_signed(TimeDelta::nanoseconds(nanos)))
        .ok_or_else(|| overflow("timestamp"))
        .and_then(checked)
}

/// `getHours()` and similar functions. For a timestamp, in the time zone `zone` or in UTC.
pub(super) fn part<'a>(part: Part, value: &Value<'a>, zone: Option<&str>) -> Given<'a> {
    match (value, zone) {
        (Value::Timestamp(time), zone) => of_time(part, &local(time, zone)?),
        (Value::Duration(nanos), None) => of_duration(part, *nanos),
        _ => Err(Failed::NO_OVERLOAD),
    }
}

fn local(time: &DateTime<Utc>, zone: Option<&str>) -> Result<NaiveDateTime, Failed> {
    let Some(zone) = zone.filter(|zone| !zone.is_empty()) else {
        return Ok(time.naive_utc());
    };
    if let Ok(zone) = zone.parse::<Tz>() {
        return Ok(time.with_timezone(&zone).naive_local());
    }
    match offset(zone) {
        Some(offset) => Ok(time.with_timezone(&offset).naive_local()),
        None => Err(Failed::of("unknown time zone")),
    }
}

/// `+02:00`, `-08:30`, `02:00`
fn offset(zone: &str) -> Option<FixedOffset> {
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    if minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
}

fn of_time<'a>(part: Part, time: &NaiveDateTime) -> Given<'a> {
    let number = match part {
        Part::FullYear => time.year().into(),
        Part::Month => time.month0().into(),
        Part::Date => time.day().into(),
        Part::DayOfMonth => time.day0().into(),
        Part::DayOfWeek => time.weekday().num_days_from_sunday().into(),
        Part::DayOfYear => time.ordinal0().into(),
        Part::Hours => time.hour().into(),
        Part::Minutes => time.minute().into(),
        Part::Seconds => time.second().into(),
        Part::Milliseconds => i64::from(time.nanosecond() / 1_000_000),
    };
    Ok(Value::Int(number))
}

fn of_duration<'a>(part: Part, nanos: i64) -> Given<'a> {
    let unit = match part {
        Part::Hours => 3_600_000_000_000,
        Part::Minutes => 60_000_000_000,
        Part::Seconds => 1_000_000_000,
        Part::Milliseconds => 1_000_000,
        _ => return Err(Failed::NO_OVERLOAD),
    };
    Ok(Value::Int(nanos / unit))
}
