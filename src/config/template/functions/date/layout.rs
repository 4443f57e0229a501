//! A time by Go's layout: the reference time says where each part goes.

use chrono::DateTime;

use super::*;

/// `time.Time.String`.
pub(in crate::config::template) fn shown(time: &Time) -> String {
    formatted(time, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// RFC 3339 with nanoseconds, as in JSON.
pub(in crate::config::template) fn rfc3339(time: &Time) -> String {
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
pub(super) fn next_part(layout: &str) -> Option<(&str, &str, &str)> {
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
pub(super) fn formatted(time: &Time, layout: &str) -> String {
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

fn part_text(time: &DateTime<Zone>, part: &str) -> String {
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
        "MST" => time.offset().to_string(),
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

pub(super) fn offset(seconds: i32, part: &str) -> String {
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
