//! Reads a time by Go's layout.

use super::layout::next_part;
use super::zone::FixedZone;
use super::*;

/// Parses a time with Go's layout, in the local zone if the text has none.
pub(super) fn read(call: &Call<'_>, arguments: &[Value]) -> Result<Time, String> {
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
    /// The text has `Z`, or the name UTC.
    is_utc: bool,
    zone_name: String,
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
            is_utc: false,
            zone_name: String::new(),
        }
    }
}

pub(super) const MONTHS: [&str; 12] = [
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
pub(super) const DAYS: [&str; 7] = [
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
            "MST" => return self.zone_name(text),
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
            self.is_utc = true;
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

    fn zone_name<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        if let Some(rest) = text.strip_prefix("UTC") {
            self.is_utc = true;
            return Some(rest);
        }
        let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
        let (name, rest) = text.split_at(letters);
        let fits = match letters {
            3 => true,
            4 => name.ends_with('T') || name == "WITA",
            5 => name.ends_with('T'),
            _ => false,
        };
        self.zone_name = name.to_owned();
        fits.then_some(rest)
    }

    fn time(&self, local: Zone) -> Option<Time> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let date = NaiveDate::from_ymd_opt(self.year, self.month, self.day)?;
        let clock = NaiveTime::from_hms_nano_opt(hour, self.minute, self.second, self.nanos)?;
        let naive = NaiveDateTime::new(date, clock);
        if self.is_utc {
            return Some(Time::utc(naive.and_utc()));
        }
        let here = local.from_local_datetime(&naive).earliest();
        let zone = match self.offset {
            None if self.zone_name.is_empty() => return here.map(Time),
            // A name without an offset is that of the local zone, or unknown.
            None => FixedZone::new(0, &self.zone_name)?,
            Some(offset) => FixedZone::new(offset, &self.zone_name)?,
        };
        let fits = |here: &DateTime<Zone>| {
            let offset = here.offset();
            let has_name = self.zone_name.is_empty() || offset.to_string() == self.zone_name;
            let seconds = offset.fix().local_minus_utc();
            has_name && self.offset.is_none_or(|given| given == seconds)
        };
        match here.filter(fits) {
            Some(here) => Some(Time(here)),
            None => Zone::Fixed(zone)
                .from_local_datetime(&naive)
                .earliest()
                .map(Time),
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
