//! HTML, and numbers with their units.

use std::fmt::Write as _;
use std::time::Duration;

use super::MAX_ROWS;
use crate::telemetry::sanitize::push_html;

/// A cell of a row: its class, and its text.
pub(super) type Cell = (&'static str, String);

/// Writes a table: the rows with the largest numbers first. `row` shows one of them, and is called for no others.
pub(super) fn table<R>(
    title: &str,
    columns: &[&str],
    mut rows: Vec<(f64, R)>,
    row: impl Fn(&R) -> Vec<Cell>,
    out: &mut String,
) {
    if rows.is_empty() {
        return;
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let _ = write!(
        out,
        "<section><h2>{}</h2><table><thead><tr>",
        escaped(title)
    );
    for column in columns {
        let _ = write!(out, "<th>{}</th>", escaped(column));
    }
    out.push_str("</tr></thead><tbody>");
    for (_, shown) in rows.iter().take(MAX_ROWS) {
        out.push_str("<tr>");
        for (class, text) in row(shown) {
            match class {
                "" => out.push_str("<td>"),
                class => drop(write!(out, "<td class=\"{class}\">")),
            }
            push_escaped(&text, out);
            out.push_str("</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    if rows.len() > MAX_ROWS {
        let more = rows.len() - MAX_ROWS;
        let _ = write!(
            out,
            "<p>and {more} more: enter a part of their name at the top</p>"
        );
    }
    out.push_str("</section>");
}

/// A cell with no class.
pub(super) fn plain(text: impl ToString) -> Cell {
    ("", text.to_string())
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
    push_escaped(text, &mut out);
    out
}

fn push_escaped(text: &str, out: &mut String) {
    if text.contains(char::is_control) {
        push_html(&text.replace(char::is_control, "\u{fffd}"), out);
    } else {
        push_html(text, out);
    }
}
