//! `negotiate`: the encoding that the client prefers.

use crate::runtime::encode::Encoding;

/// The supported types, in our order of preference. As in KrakenD, `text/plain` means YAML.
const OFFERS: [(&str, Encoding); 6] = [
    ("application/json", Encoding::Json),
    ("text/plain", Encoding::Yaml),
    ("application/xml", Encoding::Xml),
    ("application/x-yaml", Encoding::Yaml),
    ("application/yaml", Encoding::Yaml),
    ("text/xml", Encoding::Xml),
];

/// Longer lists are truncated: no browser sends one, and each range is compared with all others.
const MAX_RANGES: usize = 64;

/// Chooses by quality, then by the client's order, then by ours. JSON if nothing matches (RFC 9110 §12.5.1).
pub(super) fn choose(accept: &str) -> Encoding {
    let mut ranges: Vec<(&str, u16)> = accept.split(',').take(MAX_RANGES).map(range).collect();
    ranges.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    let rejected = |offer: &str| {
        let mut ranges = ranges.iter();
        ranges.any(|(range, quality)| *quality == 0 && range.eq_ignore_ascii_case(offer))
    };
    ranges
        .iter()
        .filter(|(_, quality)| *quality > 0)
        .find_map(|(range, _)| {
            let mut offers = OFFERS.iter();
            offers.find(|(offer, _)| matches(range, offer) && !rejected(offer))
        })
        .map_or(Encoding::Json, |(_, encoding)| *encoding)
}

/// A media range and its quality in thousandths.
fn range(entry: &str) -> (&str, u16) {
    let mut parts = entry.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts
        .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
        .and_then(|quality| quality.trim().parse::<f32>().ok())
        .unwrap_or(1.0);
    // The cast saturates, and NaN becomes 0.
    (range, (quality * 1000.0) as u16)
}

fn matches(range: &str, offer: &str) -> bool {
    if range.eq_ignore_ascii_case(offer) || range == "*/*" || range == "*" {
        return true;
    }
    match (range.strip_suffix("/*"), offer.split_once('/')) {
        (Some(wanted), Some((kind, _))) => wanted.eq_ignore_ascii_case(kind),
        _ => false,
    }
}
