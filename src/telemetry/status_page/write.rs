//! HTML, and numbers with their units.

use std::fmt::Write as _;
use std::time::Duration;

use super::MOST_ROWS;
use crate::telemetry::sanitize::push_html;

pub(super) fn table(title: &str, columns: &[&str], rows: Vec<(f64, String)>, out: &mut String) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<section><h2>{}</h2><table><thead><tr>",
        escaped(title)
    );
    for column in columns {
        let _ = write!(out, "<th>{}</th>", escaped(column));
    }
    out.push_str("</tr></thead><tbody>");
    let more = rows.len().saturating_sub(MOST_ROWS);
    rows.iter()
        .take(MOST_ROWS)
        .for_each(|(_, row)| out.push_str(row));
    out.push_str("</tbody></table>");
    if more > 0 {
        let _ = write!(out, "<p>and {more} more</p>");
    }
    out.push_str("</section>");
}

pub(super) fn seconds(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value < 1.0 => format!("{:.1} ms", value * 1000.0),
        Some(value) => format!("{value:.2} s"),
    }
}

pub(super) fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A text within HTML, in an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_html(text, &mut out);
    if out.contains(char::is_control) {
        out = out.replace(char::is_control, "\u{fffd}");
    }
    out
}
