//! Dates and times, in Go's layouts.

use chrono::{
    DateTime, Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset,
    TimeZone, Timelike, Utc,
};
use chrono_tz::Tz;

use super::Kind::{Any, Int, Text, Time as TimeKind};
use super::{Call, Function, Outcome, fixed, int, string};
use crate::config::template::value::{Time, Value};

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
        named(&arguments, "January")
    }),
    fixed("Day", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.day()))
    }),
    fixed("YearDay", &[TimeKind], |_, arguments| {
        number(&arguments, |time| i64::from(time.ordinal()))
    }),
    fixed("Weekday", &[TimeKind], |_, arguments| {
        named(&arguments, "Monday")
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
        Ok(Value::Time(Time(time.0.with_timezone(&Tz::UTC))))
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

fn number(arguments: &[Value], read: fn(&DateTime<Tz>) -> i64) -> Outcome {
    Ok(Value::Int(
        time_of(&arguments[0]).map_or(0, |time| read(&time.0)),
    ))
}

fn long(arguments: &[Value], read: fn(&DateTime<Tz>) -> i64) -> Outcome {
    Ok(Value::Int64(
        time_of(&arguments[0]).map_or(0, |time| read(&time.0)),
    ))
}

fn named(arguments: &[Value], layout: &str) -> Outcome {
    Ok(Value::text(
        time_of(&arguments[0])
            .map(|time| formatted(&time, layout))
            .unwrap_or_default(),
    ))
}

fn instants(arguments: &[Value], compare: fn(i64, i64) -> bool) -> bool {
    let nanos = |index: usize| {
        time_of(&arguments[index])
            .and_then(|time| time.0.timestamp_nanos_opt())
            .unwrap_or(0)
    };
    compare(nanos(0), nanos(1))
}

fn local(call: &Call<'_>) -> Tz {
    call.host
        .zone()
        .and_then(|name| name.parse().ok())
        .unwrap_or(Tz::UTC)
}

/// An unknown zone means UTC.
fn zone_named(call: &Call<'_>, name: &str) -> Tz {
    if name == "Local" {
        local(call)
    } else {
        name.parse().unwrap_or(Tz::UTC)
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
            DateTime::from_timestamp(*seconds, 0).map_or_else(|| now(call), Time::utc)
        }
        _ => now(call),
    }
}

fn shown_in(call: &Call<'_>, layout: &str, value: &Value, zone: Tz) -> Value {
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
    let time = time_of(&arguments[1]).unwrap_or_else(year_one);
    let delta = Duration::nanoseconds(i64::try_from(nanos).unwrap_or(0));
    let moved = time
        .0
        .checked_add_signed(delta)
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

/// `time.Time.String`.
pub(in crate::config::template) fn shown(time: &Time) -> String {
    formatted(time, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// RFC 3339 with nanoseconds, as in JSON.
pub(super) fn rfc3339(time: &Time) -> String {
    formatted(time, "2006-01-02T15:04:05.999999999Z07:00")
}

/// The elements of a layout, taken from Go's reference time, longer ones first.
const PARTS: &[&str] = &[
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "__2",
    "_2",
    "1",
    "2",
    "3",
    "4",
    "5",
    "PM",
    "pm",
];

/// The next element of a layout: the text before it, the element, and the text after it.
fn next_part(layout: &str) -> Option<(&str, &str, &str)> {
    let mut found = None;
    for (at, _) in layout.char_indices() {
        let rest = &layout[at..];
        if let Some(part) = PARTS.iter().find(|part| rest.starts_with(**part)) {
            // `Jan` does not match in `Januar`, and `Mon` does not match in `Month`.
            let is_word = matches!(*part, "Jan" | "Mon");
            if !(is_word && rest[part.len()..].starts_with(|c: char| c.is_ascii_lowercase())) {
                found = Some((at, part.len()));
                break;
            }
        }
        let fraction = rest.strip_prefix(['.', ',']).map(|digits| {
            let nines = digits.len() - digits.trim_start_matches('9').len();
            let zeros = digits.len() - digits.trim_start_matches('0').len();
            nines.max(zeros)
        });
        if let Some(count @ 1..) = fraction
            && !rest[1 + count..].starts_with(|c: char| c.is_ascii_digit())
        {
            found = Some((at, 1 + count));
            break;
        }
    }
    let (at, length) = found?;
    Some((
        &layout[..at],
        &layout[at..at + length],
        &layout[at + length..],
    ))
}

/// Formats a time with Go's layout.
fn formatted(time: &Time, layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some((before, part, behind)) = next_part(rest) {
        out.push_str(before);
        out.push_str(&part_text(&time.0, part));
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn part_text(time: &DateTime<Tz>, part: &str) -> String {
    let hour12 = if time.hour().is_multiple_of(12) {
        12
    } else {
        time.hour() % 12
    };
    match part {
        "January" => time.format("%B").to_string(),
        "Jan" => time.format("%b").to_string(),
        "Monday" => time.format("%A").to_string(),
        "Mon" => time.format("%a").to_string(),
        "MST" => time.format("%Z").to_string(),
        "2006" => format!("{:04}", time.year()),
        "06" => format!("{:02}", time.year().rem_euclid(100)),
        "01" => format!("{:02}", time.month()),
        "1" => time.month().to_string(),
        "02" => format!("{:02}", time.day()),
        "_2" => format!("{:2}", time.day()),
        "2" => time.day().to_string(),
        "002" => format!("{:03}", time.ordinal()),
        "__2" => format!("{:3}", time.ordinal()),
        "15" => format!("{:02}", time.hour()),
        "03" => format!("{hour12:02}"),
        "3" => hour12.to_string(),
        "04" => format!("{:02}", time.minute()),
        "4" => time.minute().to_string(),
        "05" => format!("{:02}", time.second()),
        "5" => time.second().to_string(),
        "PM" => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        "pm" => if time.hour() < 12 { "am" } else { "pm" }.to_owned(),
        _ if part.starts_with(['.', ',']) => fraction(time.nanosecond(), part),
        zone => offset(time.offset().fix().local_minus_utc(), zone),
    }
}

fn fraction(nanos: u32, part: &str) -> String {
    let digits = format!("{:09}", nanos % 1_000_000_000);
    let kept = &digits[..(part.len() - 1).min(9)];
    if part[1..].starts_with('0') {
        return format!("{}{kept}", &part[..1]);
    }
    let trimmed = kept.trim_end_matches('0');
    if trimmed.is_empty() {
        String::new()
    } else {
        format!("{}{trimmed}", &part[..1])
    }
}

fn offset(seconds: i32, part: &str) -> String {
    if part.starts_with('Z') && seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let size = seconds.unsigned_abs();
    let (hours, minutes, rest) = (size / 3600, size / 60 % 60, size % 60);
    match &part[1..] {
        "07:00:00" => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
        "070000" => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
        "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
        "0700" => format!("{sign}{hours:02}{minutes:02}"),
        _ => format!("{sign}{hours:02}"),
    }
}

/// Parses a time with Go's layout, in the local zone if the text has none.
fn read(call: &Call<'_>, arguments: &[Value]) -> Result<Time, String> {
    let (layout, text) = (string(arguments, 0), string(arguments, 1));
    let error = || format!("parsing time {text:?} as {layout:?}: cannot parse");
    let mut parsed = Parsed::default();
    let (mut layout_rest, mut rest) = (layout.as_str(), text.as_str());
    while let Some((before, part, behind)) = next_part(layout_rest) {
        rest = rest.strip_prefix(before).ok_or_else(error)?;
        rest = parsed.take(part, rest).ok_or_else(error)?;
        layout_rest = behind;
    }
    if rest != layout_rest {
        return Err(error());
    }
    parsed.time(local(call)).ok_or_else(error)
}

struct Parsed {
    year: i32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    afternoon: Option<bool>,
    offset: Option<i32>,
}

impl Default for Parsed {
    fn default() -> Parsed {
        Parsed {
            year: 0,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            nanos: 0,
            afternoon: None,
            offset: None,
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Parsed {
    fn take<'t>(&mut self, part: &str, text: &'t str) -> Option<&'t str> {
        let (value, rest) = match part {
            "January" => return self.month_name(text, usize::MAX),
            "Jan" => return self.month_name(text, 3),
            "Monday" => return name(&DAYS, text, usize::MAX).map(|(_, rest)| rest),
            "Mon" => return name(&DAYS, text, 3).map(|(_, rest)| rest),
            "MST" => {
                return text
                    .get(3..)
                    .filter(|_| text[..3].bytes().all(|byte| byte.is_ascii_uppercase()));
            }
            "PM" | "pm" => {
                let upper = text.get(..2)?.to_ascii_uppercase();
                self.afternoon = Some(match upper.as_str() {
                    "PM" => true,
                    "AM" => false,
                    _ => return None,
                });
                return text.get(2..);
            }
            "2006" => digits(text, 4, 4)?,
            "06" | "01" | "02" | "04" | "05" | "03" => digits(text, 2, 2)?,
            "15" => digits(text, 2, 2)?,
            "002" => digits(text, 3, 3)?,
            "_2" => digits(text.trim_start_matches(' '), 1, 2)?,
            "__2" => digits(text.trim_start_matches(' '), 1, 3)?,
            "1" | "2" | "3" | "4" | "5" => digits(text, 1, 2)?,
            _ if part.starts_with(['.', ',']) => return self.fraction(part, text),
            zone => return self.zone(zone, text),
        };
        match part {
            "2006" => self.year = value as i32,
            "06" => self.year = value as i32 + if value >= 69 { 1900 } else { 2000 },
            "01" | "1" => self.month = value,
            "02" | "2" | "_2" => self.day = value,
            "15" | "03" | "3" => self.hour = value,
            "04" | "4" => self.minute = value,
            "05" | "5" => self.second = value,
            _ => {
                let date = NaiveDate::from_yo_opt(self.year, value)?;
                (self.month, self.day) = (date.month(), date.day());
            }
        }
        // A fraction may follow the seconds even if the layout has none.
        if matches!(part, "05" | "5")
            && rest.starts_with('.')
            && rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            return self.fraction(".9", rest);
        }
        Some(rest)
    }

    fn month_name<'t>(&mut self, text: &'t str, letters: usize) -> Option<&'t str> {
        let (index, rest) = name(&MONTHS, text, letters)?;
        self.month = index as u32 + 1;
        Some(rest)
    }

    fn fraction<'t>(&mut self, part: &str, text: &'t str) -> Option<&'t str> {
        let Some(behind) = text.strip_prefix(['.', ',']) else {
            return part[1..].starts_with('9').then_some(text);
        };
        let end = behind
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(behind.len());
        if end == 0 || end > 9 {
            return None;
        }
        let value: u32 = behind[..end].parse().ok()?;
        self.nanos = value * 10_u32.pow(9 - end as u32);
        Some(&behind[end..])
    }

    fn zone<'t>(&mut self, part: &str, text: &'t str) -> Option<&'t str> {
        if part.starts_with('Z') && text.starts_with('Z') {
            self.offset = Some(0);
            return Some(&text[1..]);
        }
        let length = part.len();
        let given = text.get(..length)?;
        let sign = match given.as_bytes()[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let clean: String = given[1..].chars().filter(|c| *c != ':').collect();
        let pair = |at: usize| {
            clean
                .get(at..at + 2)
                .map_or(Some(0), |text| text.parse::<i32>().ok())
        };
        self.offset = Some(sign * (pair(0)? * 3600 + pair(2)? * 60 + pair(4)?));
        Some(&text[length..])
    }

    fn time(&self, local: Tz) -> Option<Time> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let date = NaiveDate::from_ymd_opt(self.year, self.month, self.day)?;
        let clock = NaiveTime::from_hms_nano_opt(hour, self.minute, self.second, self.nanos)?;
        let naive = NaiveDateTime::new(date, clock);
        match self.offset {
            Some(offset) => {
                let utc = naive.checked_sub_signed(Duration::seconds(i64::from(offset)))?;
                Some(Time::utc(utc.and_utc()))
            }
            None => local.from_local_datetime(&naive).earliest().map(Time),
        }
    }
}

fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let count = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    if count < least {
        return None;
    }
    Some((text[..count].parse().ok()?, &text[count..]))
}

fn name<'t>(names: &[&str], text: &'t str, letters: usize) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let name = &name[..letters.min(name.len())];
        let given = text.get(..name.len())?;
        given
            .eq_ignore_ascii_case(name)
            .then(|| (index, &text[name.len()..]))
    })
}
