//! Dates and times, in Go's layouts.

mod layout;
mod named;
mod parsed;
mod zone;

use chrono::{
    DateTime, Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset,
    TimeZone, Timelike, Utc,
};

use super::Kind::{Any, Int, Text, Time as TimeKind};
use super::{Call, Function, Outcome, fixed, int, string};
use crate::config::template::value::{Time, Value};

use layout::formatted;
pub(super) use layout::rfc3339;
pub(in crate::config::template) use layout::shown;
pub(in crate::config::template) use named::Named;
pub(super) use named::methods as methods_of_named;
use parsed::read;
pub(in crate::config::template) use zone::Zone;

pub(super) static TABLE: &[Function] = &[
    fixed("now", &[], |call, _| Ok(Value::Time(now(call)))),
    fixed("date", &[Text, Any], |call, arguments| {
        let zone = local(call);
        Ok(shown_in(call, &string(&arguments, 0), &arguments[1], zone))
    }),
    fixed("dateInZone", &[Text, Any, Text], in_zone),
    fixed("date_in_zone", &[Text, Any, Text], in_zone),
    fixed("htmlDate", &[Any], |call, arguments| {
        let zone = local(call);
        Ok(shown_in(call, "2006-01-02", &arguments[0], zone))
    }),
    fixed("htmlDateInZone", &[Any, Text], |call, arguments| {
        let zone = zone_named(call, &string(&arguments, 1));
        Ok(shown_in(call, "2006-01-02", &arguments[0], zone))
    }),
    fixed("toDate", &[Text, Text], |call, arguments| {
        Ok(Value::Time(
            read(call, &arguments).unwrap_or_else(|_| year_one()),
        ))
    }),
    fixed("mustToDate", &[Text, Text], |call, arguments| {
        read(call, &arguments).map(Value::Time)
    }),
    fixed("dateModify", &[Text, TimeKind], |_, arguments| {
        Ok(modified(&arguments).unwrap_or_else(|_| arguments[1].clone()))
    }),
    fixed("date_modify", &[Text, TimeKind], |_, arguments| {
        Ok(modified(&arguments).unwrap_or_else(|_| arguments[1].clone()))
    }),
    fixed("mustDateModify", &[Text, TimeKind], |_, arguments| {
        modified(&arguments)
    }),
    fixed("must_date_modify", &[Text, TimeKind], |_, arguments| {
        modified(&arguments)
    }),
    fixed("unixEpoch", &[TimeKind], |_, arguments| {
        let time = time_of(&arguments[0]).unwrap_or_else(year_one);
        Ok(Value::text(time.0.timestamp().to_string()))
    }),
    fixed("ago", &[Any], |call, arguments| {
        let now = now(call);
        let then = moment(call, &arguments[0]);
        let seconds = (now.0 - then.0).num_milliseconds() as f64 / 1000.0;
        Ok(Value::text(duration_text(
            seconds.round() as i128 * 1_000_000_000,
        )))
    }),
    fixed("duration", &[Any], |_, arguments| {
        let seconds = match &arguments[0] {
            Value::Text(_) => string(&arguments, 0).parse().unwrap_or(0),
            Value::Int64(seconds) => *seconds,
            _ => 0,
        };
        Ok(Value::text(duration_text(
            i128::from(seconds) * 1_000_000_000,
        )))
    }),
    fixed("durationRound", &[Any], duration_round),
];

pub(super) static METHODS: &[Function] = &[
    fixed("Year", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.year()))
    }),
    fixed("Month", &[TimeKind], |_, arguments| {
        named(&arguments, |time| Named::Month(time.month()))
    }),
    fixed("Day", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.day()))
    }),
    fixed("YearDay", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.ordinal()))
    }),
    fixed("Weekday", &[TimeKind], |_, arguments| {
        named(&arguments, |time| {
            Named::Weekday(time.weekday().num_days_from_sunday())
        })
    }),
    fixed("Hour", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.hour()))
    }),
    fixed("Minute", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.minute()))
    }),
    fixed("Second", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.second()))
    }),
    fixed("Nanosecond", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.nanosecond()))
    }),
    fixed("Unix", &[TimeKind], |_, arguments| {
        long(&arguments, |time| time.timestamp())
    }),
    fixed("UnixMilli", &[TimeKind], |_, arguments| {
        long(&arguments, |time| time.timestamp_millis())
    }),
    fixed("UnixMicro", &[TimeKind], |_, arguments| {
        long(&arguments, |time| time.timestamp_micros())
    }),
    fixed("UnixNano", &[TimeKind], |_, arguments| {
        long(&arguments, |time| time.timestamp_nanos_opt().unwrap_or(0))
    }),
    fixed("IsZero", &[TimeKind], |_, arguments| {
        Ok(Value::Bool(time_of(&arguments[0]) == Some(year_one())))
    }),
    fixed("UTC", &[TimeKind], |_, arguments| {
        let time = time_of(&arguments[0]).unwrap_or_else(year_one);
        Ok(Value::Time(Time(time.0.with_timezone(&Zone::UTC))))
    }),
    fixed("Local", &[TimeKind], |call, arguments| {
        let time = time_of(&arguments[0]).unwrap_or_else(year_one);
        Ok(Value::Time(Time(time.0.with_timezone(&local(call)))))
    }),
    fixed("Location", &[TimeKind], |_, arguments| {
        let time = time_of(&arguments[0]).unwrap_or_else(year_one);
        Ok(Value::text(time.0.timezone().name()))
    }),
    fixed("String", &[TimeKind], |_, arguments| {
        Ok(Value::text(
            time_of(&arguments[0])
                .map(|time| shown(&time))
                .unwrap_or_default(),
        ))
    }),
    fixed("Format", &[TimeKind, Text], |_, arguments| {
        let time = time_of(&arguments[0]).unwrap_or_else(year_one);
        Ok(Value::text(formatted(&time, &string(&arguments, 1))))
    }),
    fixed("AddDate", &[TimeKind, Int, Int, Int], add_date),
    fixed("Sub", &[TimeKind, TimeKind], |_, arguments| {
        let (left, right) = (&arguments[0], &arguments[1]);
        let between = time_of(left).zip(time_of(right));
        let between = between.map_or_else(Duration::zero, |(left, right)| left.0 - right.0);
        // Go's durations end at 292 years.
        let nanos = between.num_nanoseconds();
        let nanos = nanos.unwrap_or(if between < Duration::zero() {
            i64::MIN
        } else {
            i64::MAX
        });
        Ok(Named::Duration(nanos).value())
    }),
    fixed("Add", &[TimeKind, Any], |_, arguments| {
        match arguments[1].named() {
            Some(Named::Duration(nanos)) => moved(&arguments[0], nanos),
            _ => Err(format!(
                "wrong type for value; expected time.Duration; got {}",
                arguments[1].type_name()
            )),
        }
    }),
    fixed("Compare", &[TimeKind, TimeKind], |_, arguments| {
        let order = time_of(&arguments[0]).partial_cmp(&time_of(&arguments[1]));
        Ok(Value::Int(order.map_or(0, |order| order as i64)))
    }),
    fixed("Before", &[TimeKind, TimeKind], |_, arguments| {
        Ok(Value::Bool(instants(&arguments, |a, b| a < b)))
    }),
    fixed("After", &[TimeKind, TimeKind], |_, arguments| {
        Ok(Value::Bool(instants(&arguments, |a, b| a > b)))
    }),
    fixed("Equal", &[TimeKind, TimeKind], |_, arguments| {
        Ok(Value::Bool(instants(&arguments, |a, b| a == b)))
    }),
];

fn time_of(value: &Value) -> Option<Time> {
    match value {
        Value::Time(time) => Some(*time),
        _ => None,
    }
}

fn year_one() -> Time {
    let date = NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default();
    Time::utc(date.and_time(NaiveTime::MIN).and_utc())
}

fn number(arguments: &[Value], read: fn(&DateTime<Zone>) -> i64) -> Outcome {
    Ok(Value::Int(
        time_of(&arguments[0]).map_or(0, |time| read(&time.0)),
    ))
}

fn long(arguments: &[Value], read: fn(&DateTime<Zone>) -> i64) -> Outcome {
    Ok(Value::Int64(
        time_of(&arguments[0]).map_or(0, |time| read(&time.0)),
    ))
}

fn named(arguments: &[Value], read: fn(&DateTime<Zone>) -> Named) -> Outcome {
    let time = time_of(&arguments[0]).unwrap_or_else(year_one);
    Ok(read(&time.0).value())
}

fn instants(arguments: &[Value], compare: fn(i64, i64) -> bool) -> bool {
    let nanos = |index: usize| {
        time_of(&arguments[index])
            .and_then(|time| time.0.timestamp_nanos_opt())
            .unwrap_or(0)
    };
    compare(nanos(0), nanos(1))
}

fn local(call: &Call<'_>) -> Zone {
    let zone = call.host.zone().and_then(|name| name.parse().ok());
    zone.map_or(Zone::UTC, Zone::Known)
}

/// An unknown zone means UTC.
fn zone_named(call: &Call<'_>, name: &str) -> Zone {
    if name == "Local" {
        local(call)
    } else {
        name.parse().map_or(Zone::UTC, Zone::Known)
    }
}

fn now(call: &Call<'_>) -> Time {
    Time(Utc::now().with_timezone(&local(call)))
}

/// The time passed to a date function. Numbers from settings and all other values mean now.
fn moment(call: &Call<'_>, value: &Value) -> Time {
    match value {
        Value::Time(time) => *time,
        Value::Int(seconds) | Value::Int64(seconds) => {
            let time =
                DateTime::from_timestamp(*seconds, 0).filter(|time| is_in_range(time.year()));
            time.map_or_else(|| now(call), Time::utc)
        }
        _ => now(call),
    }
}

/// At the ends of its calendar, chrono panics when it adds the offset of a zone.
fn is_in_range(year: i32) -> bool {
    (-200_000..=200_000).contains(&year)
}

fn shown_in(call: &Call<'_>, layout: &str, value: &Value, zone: Zone) -> Value {
    let time = moment(call, value);
    Value::text(formatted(&Time(time.0.with_timezone(&zone)), layout))
}

fn in_zone(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let zone = zone_named(call, &string(&arguments, 2));
    Ok(shown_in(call, &string(&arguments, 0), &arguments[1], zone))
}

fn modified(arguments: &[Value]) -> Outcome {
    let text = string(arguments, 0);
    let nanos = duration(&text).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
    moved(&arguments[1], i64::try_from(nanos).unwrap_or(0))
}

fn moved(time: &Value, nanos: i64) -> Outcome {
    let time = time_of(time).unwrap_or_else(year_one);
    let delta = Duration::nanoseconds(nanos);
    let moved = time
        .0
        .checked_add_signed(delta)
        .filter(|moved| is_in_range(moved.year()))
        .ok_or("the time is out of range")?;
    Ok(Value::Time(Time(moved)))
}

fn add_date(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let time = time_of(&arguments[0]).unwrap_or_else(year_one);
    let months = int(&arguments, 1)
        .saturating_mul(12)
        .saturating_add(int(&arguments, 2));
    let days = int(&arguments, 3);
    // The first of the month is moved and the days are added to it, so that 31 January plus a month is 3 March, as in
    // Go.
    let day = u64::from(time.0.day() - 1);
    let first = time
        .0
        .naive_local()
        .with_day(1)
        .ok_or("the time is out of range")?;
    let size = Months::new(u32::try_from(months.unsigned_abs()).unwrap_or(u32::MAX));
    let moved = if months < 0 {
        first.checked_sub_months(size)
    } else {
        first.checked_add_months(size)
    };
    let moved = moved.and_then(|moved| moved.checked_add_days(Days::new(day)));
    let span = Days::new(days.unsigned_abs());
    let moved = moved.and_then(|moved| {
        if days < 0 {
            moved.checked_sub_days(span)
        } else {
            moved.checked_add_days(span)
        }
    });
    let moved = moved.filter(|moved| is_in_range(moved.year()));
    let moved = moved.and_then(|moved| time.0.timezone().from_local_datetime(&moved).earliest());
    moved
        .map(|moved| Value::Time(Time(moved)))
        .ok_or_else(|| "the time is out of range".to_owned())
}

/// The nanoseconds of a Go duration: `1h30m`, `-1.5s`, `0`.
fn duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += value * unit;
        rest = &rest[end..];
    }
    let total = total as i128;
    Some(if negative { -total } else { total })
}

/// A duration as Go formats it: `1m35s`, `1.5s`, `20ms`.
fn duration_text(nanos: i128) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    if size < 1_000_000_000 {
        let (unit, name) = match size {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", size as f64 / f64::from(unit));
    }
    let seconds = size / 1_000_000_000;
    let fraction = (size % 1_000_000_000) as f64 / 1e9;
    let rest = (seconds % 60) as f64 + fraction;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

fn duration_round(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let nanos = match &arguments[0] {
        Value::Text(_) => duration(&string(&arguments, 0)).unwrap_or(0),
        Value::Int64(nanos) => i128::from(*nanos),
        Value::Time(time) => i128::from((now(call).0 - time.0).num_nanoseconds().unwrap_or(0)),
        _ => 0,
    };
    let seconds = nanos.unsigned_abs() / 1_000_000_000;
    let units = [
        (31_536_000, "y"),
        (2_592_000, "mo"),
        (86_400, "d"),
        (3_600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let found = units.iter().find(|(size, _)| seconds >= *size);
    Ok(Value::text(found.map_or_else(
        || "0s".to_owned(),
        |(size, name)| format!("{}{name}", seconds / size),
    )))
}
