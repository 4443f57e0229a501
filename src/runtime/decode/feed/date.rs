//! The dates of feeds: RFC 822 in its many variants, and RFC 3339.

/// The date in RFC 3339 and UTC. `None` if it is not a date.
pub(super) fn to_rfc3339(text: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (seconds, fraction) = match digits {
        4 => internet(text)?,
        _ => (mail(text)?, ""),
    };
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"
    ))
}

/// `2021-09-06T00:01:00.5+02:00`, or only the day.
fn internet(text: &str) -> Option<(i64, &str)> {
    let day = text.get(..10)?;
    let mut parts = day.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let start = days(year, month, day)? * 86_400;
    let rest = text.get(10..)?;
    if rest.is_empty() {
        return Some((start, ""));
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = (rest.get(..8)?, rest.get(8..)?);
    let fraction = match rest.strip_prefix('.') {
        Some(digits) => 1 + digits.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    let (fraction, zone) = rest.split_at_checked(fraction)?;
    let fraction = fraction.trim_end_matches(['0', '.']);
    Some((start + time(clock)? - offset(zone)?, fraction))
}

/// `Mon, 06 Sep 2021 00:01:00 +0000`, where the weekday and the seconds are optional.
fn mail(text: &str) -> Option<i64> {
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = text.split_ascii_whitespace().peekable();
    // The name of a weekday without its comma.
    words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()));
    let day = number(words.next()?)?;
    let month = month(words.next()?)?;
    let year = match number(words.next()?)? {
        short @ 0..=69 => short + 2000,
        short @ 70..=99 => short + 1900,
        year => year,
    };
    let start = days(year, month, day)? * 86_400;
    let clock = words.next().map_or(Some(0), time)?;
    let zone = words.next().map_or(Some(0), offset)?;
    Some(start + clock - zone)
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn month(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let short = text.get(..3)?.to_ascii_lowercase();
    let at = MONTHS.iter().position(|month| *month == short)?;
    Some(at as i64 + 1)
}

/// `00:01:00` or `00:01`, in seconds.
fn time(text: &str) -> Option<i64> {
    let mut parts = text.split(':').map(number);
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let fits = hour < 24 && minute < 60 && second <= 60 && parts.next().is_none();
    fits.then_some(hour * 3600 + minute * 60 + second)
}

/// `+0200`, `-01:30`, `Z`, `EST`, in seconds.
fn offset(zone: &str) -> Option<i64> {
    let hours = match zone.to_ascii_uppercase().as_str() {
        "Z" | "UT" | "UTC" | "GMT" | "" => 0,
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ => return numeric_offset(zone),
    };
    Some(hours * 3600)
}

fn numeric_offset(zone: &str) -> Option<i64> {
    let (sign, digits) = match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let (hours, minutes) = (digits.get(..2)?, digits.get(2..)?);
    Some(sign * (number(hours)? * 3600 + number(minutes)? * 60))
}

/// Days since 1970-01-01 in the Gregorian calendar, if the day exists.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let shifted = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    ((1..=12).contains(&month) && civil(days) == (year, month, day)).then_some(days)
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_of_feeds_are_parsed() {
        for (text, want) in [
            ("Mon, 06 Sep 2021 00:01:00 +0000", "2021-09-06T00:01:00Z"),
            ("Mon, 6 Sep 2021 00:01:00 GMT", "2021-09-06T00:01:00Z"),
            ("06 Sep 21 00:01 EST", "2021-09-06T05:01:00Z"),
            ("Tue, 31 Dec 2019 23:30:00 -0100", "2020-01-01T00:30:00Z"),
            ("2021-09-06T00:01:00Z", "2021-09-06T00:01:00Z"),
            ("2021-09-06T00:01:00.250+02:00", "2021-09-05T22:01:00.25Z"),
            ("2020-02-29", "2020-02-29T00:00:00Z"),
        ] {
            assert_eq!(to_rfc3339(text).as_deref(), Some(want), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2021-02-29",
            "Mon, 31 Sep 2021 00:00:00 GMT",
            "2021-13-01",
        ] {
            assert_eq!(to_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in "[0-9:+TZ. ,a-zé-]{0,30}") {
            to_rfc3339(&text);
        }

        #[test]
        fn each_day_converts_back_to_itself(day in -900_000_i64..3_000_000) {
            let (year, month, of_month) = civil(day);
            prop_assert_eq!(days(year, month, of_month), Some(day));
        }
    }
}
