//! Dates in log lines.

use std::cell::RefCell;
use std::time::Duration;

use chrono::{DateTime, Local, SecondsFormat, TimeZone, Utc};

/// A moment, `since_1970`, in the time zone of this machine.
pub(crate) fn local(since_1970: Duration) -> DateTime<Local> {
    Local.from_utc_datetime(&utc(since_1970).naive_utc())
}

/// A moment, `since_1970`, in UTC.
pub(crate) fn utc(since_1970: Duration) -> DateTime<Utc> {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, since_1970.subsec_nanos()).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The moment in RFC 3339 format, in UTC with milliseconds.
pub(crate) fn rfc3339(since_1970: Duration) -> String {
    utc(since_1970).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The current time since the Unix epoch.
pub(crate) fn now() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Appends the local time, `2026/11/23 - 22:22:08`. It is formatted once per second and thread.
pub(crate) fn push_gin_date(since_1970: Duration, out: &mut Vec<u8>) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since_1970.as_secs() {
            *second = since_1970.as_secs();
            *text = local(since_1970).format("%Y/%m/%d - %H:%M:%S").to_string();
        }
        out.extend_from_slice(text.as_bytes());
    });
}

/// A layout of Go's `time` package, translated once: `2006-01-02T15:04:05.000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoLayout(String);

/// The elements of Go's reference time and their names in chrono. Longer elements come before their own prefixes.
const PIECES: &[(&str, &str)] = &[
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("Z07:00", "%:z"),
    ("Z0700", "%z"),
    (".000000000", "%.9f"),
    (".000000", "%.6f"),
    (".000", "%.3f"),
    (".999999999", "%.9f"),
    (".999999", "%.6f"),
    (".999", "%.3f"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

impl GoLayout {
    /// Translates a layout. Text that is not an element in Go is kept.
    pub fn parse(layout: &str) -> GoLayout {
        let mut out = String::new();
        let mut rest = layout;
        while let Some(first) = rest.chars().next() {
            match PIECES.iter().find(|(go, _)| rest.starts_with(go)) {
                Some((go, ours)) => {
                    out.push_str(ours);
                    rest = &rest[go.len()..];
                }
                None => {
                    if first == '%' {
                        out.push('%');
                    }
                    out.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        GoLayout(out)
    }

    /// The moment in this layout, in local time.
    pub fn print(&self, since_1970: Duration) -> String {
        local(since_1970).format(&self.0).to_string()
    }
}

/// Appends a duration as Go formats it: `1.37ms`, `33.099µs`, `1m10s`.
pub(crate) fn push_go_duration(duration: Duration, out: &mut Vec<u8>) {
    let nanos = nanoseconds(duration);
    match nanos {
        0 => out.extend_from_slice(b"0s"),
        1..=999 => push_fraction(nanos, 0, "ns", out),
        1_000..=999_999 => push_fraction(nanos, 3, "µs", out),
        1_000_000..=999_999_999 => push_fraction(nanos, 6, "ms", out),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            if minutes >= 60 {
                out.extend_from_slice(format!("{}h", minutes / 60).as_bytes());
            }
            if minutes > 0 {
                out.extend_from_slice(format!("{}m", minutes % 60).as_bytes());
            }
            push_fraction(rest, 9, "s", out);
        }
    }
}

/// At most 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}

/// `nanos` divided by 10^`digits`, without trailing zeros.
fn push_fraction(nanos: u64, digits: usize, unit: &str, out: &mut Vec<u8>) {
    const SCALES: [u64; 10] = [
        1,
        10,
        100,
        1_000,
        10_000,
        100_000,
        1_000_000,
        10_000_000,
        100_000_000,
        1_000_000_000,
    ];
    let scale = SCALES.get(digits).copied().unwrap_or(1);
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(number.format(nanos / scale).as_bytes());
    let rest = nanos % scale;
    if rest > 0 {
        // One more in front keeps the zeros after the point; the point then takes its place.
        let start = out.len();
        out.extend_from_slice(number.format(scale + rest).as_bytes());
        if let Some(first) = out.get_mut(start) {
            *first = b'.';
        }
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.extend_from_slice(unit.as_bytes());
}

/// A latency as the access log rounds it: to 10 µs above 1 ms, to 10 ms above 1 s, to 10 s above 1 min.
pub(crate) fn cut_latency(latency: Duration) -> Duration {
    let step = match latency {
        l if l > Duration::from_secs(60) => Duration::from_secs(10),
        l if l > Duration::from_secs(1) => Duration::from_millis(10),
        l if l > Duration::from_millis(1) => Duration::from_micros(10),
        _ => return latency,
    };
    let step = nanoseconds(step);
    Duration::from_nanos(nanoseconds(latency) / step * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(nanos: u64) -> String {
        let mut out = Vec::new();
        push_go_duration(Duration::from_nanos(nanos), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn durations_are_formatted_as_in_go() {
        assert_eq!(go(0), "0s");
        assert_eq!(go(999), "999ns");
        assert_eq!(go(33_099), "33.099µs");
        assert_eq!(go(1_370_000), "1.37ms");
        assert_eq!(go(1_000_000_000), "1s");
        assert_eq!(go(1_050_000_000), "1.05s");
        assert_eq!(go(1_000_000_001), "1.000000001s");
        assert_eq!(go(10_100), "10.1µs");
        assert_eq!(go(60_000_000_000), "1m0s");
        assert_eq!(go(70_000_000_000), "1m10s");
        assert_eq!(go(3_600_000_000_000), "1h0m0s");
    }

    #[test]
    fn long_latencies_are_rounded() {
        let cut = |nanos| cut_latency(Duration::from_nanos(nanos)).as_nanos();
        assert_eq!(cut(999_999), 999_999);
        assert_eq!(cut(1_378_999), 1_370_000);
        assert_eq!(cut(1_378_999_999), 1_370_000_000);
        assert_eq!(cut(79_999_999_999), 70_000_000_000);
    }

    #[test]
    fn layouts_of_go_are_translated() {
        let layout = |text| GoLayout::parse(text).0;
        assert_eq!(
            layout("2006/01/02 - 15:04:05.000"),
            "%Y/%m/%d - %H:%M:%S%.3f"
        );
        assert_eq!(
            layout("Mon Jan _2 3:04PM 100%"),
            "%a %b %e %-I:%M%p %-m00%%"
        );
    }
}
