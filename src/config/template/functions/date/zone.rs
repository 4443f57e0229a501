//! The zone of a time: one of the time zone database, or the offset that a text has named.

use std::fmt;

use chrono::{FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{Tz, TzOffset};

/// A time zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::config::template) enum Zone {
    Known(Tz),
    Fixed(FixedZone),
}

/// Go's `time.FixedZone`: an offset with an abbreviation, which may be empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::config::template) struct FixedZone {
    offset: FixedOffset,
    /// ASCII, filled up with zeros.
    abbreviation: [u8; MAX_LETTERS],
}

/// The longest abbreviation of a zone, as in Go.
const MAX_LETTERS: usize = 5;

impl FixedZone {
    /// A zone east of UTC by `seconds`. `None` if they are a day or more.
    pub(super) fn new(seconds: i32, name: &str) -> Option<FixedZone> {
        let mut abbreviation = [0; MAX_LETTERS];
        for (to, from) in abbreviation.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Some(FixedZone {
            offset: FixedOffset::east_opt(seconds)?,
            abbreviation,
        })
    }

    fn name(&self) -> &str {
        let text = std::str::from_utf8(&self.abbreviation).unwrap_or_default();
        text.trim_end_matches('\0')
    }
}

impl Zone {
    pub(in crate::config::template) const UTC: Zone = Zone::Known(Tz::UTC);

    /// The name of the zone, as `.Location` prints it.
    pub(super) fn name(&self) -> &str {
        match self {
            Zone::Known(zone) => zone.name(),
            Zone::Fixed(zone) => zone.name(),
        }
    }
}

/// The offset of a zone at a time.
#[derive(Debug, Clone, Copy)]
pub(in crate::config::template) enum ZoneOffset {
    Known(TzOffset),
    Fixed(FixedZone),
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        match self {
            ZoneOffset::Known(offset) => offset.fix(),
            ZoneOffset::Fixed(zone) => zone.offset,
        }
    }
}

/// The abbreviation. Without one, Go prints the offset: `+02`, `+0330`.
impl fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ZoneOffset::Known(offset) => offset.fmt(f),
            ZoneOffset::Fixed(zone) if zone.abbreviation[0] == 0 => f.write_str(
                &super::layout::offset(zone.offset.local_minus_utc(), "-0700"),
            ),
            ZoneOffset::Fixed(zone) => f.write_str(zone.name()),
        }
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Zone {
        match offset {
            ZoneOffset::Known(offset) => Zone::Known(Tz::from_offset(offset)),
            ZoneOffset::Fixed(zone) => Zone::Fixed(*zone),
        }
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        match self {
            Zone::Known(zone) => zone.offset_from_local_date(local).map(ZoneOffset::Known),
            Zone::Fixed(zone) => MappedLocalTime::Single(ZoneOffset::Fixed(*zone)),
        }
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        match self {
            Zone::Known(zone) => zone
                .offset_from_local_datetime(local)
                .map(ZoneOffset::Known),
            Zone::Fixed(zone) => MappedLocalTime::Single(ZoneOffset::Fixed(*zone)),
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        match self {
            Zone::Known(zone) => ZoneOffset::Known(zone.offset_from_utc_date(utc)),
            Zone::Fixed(zone) => ZoneOffset::Fixed(*zone),
        }
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        match self {
            Zone::Known(zone) => ZoneOffset::Known(zone.offset_from_utc_datetime(utc)),
            Zone::Fixed(zone) => ZoneOffset::Fixed(*zone),
        }
    }
}
