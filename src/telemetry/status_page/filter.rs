//! What a viewer looks for: with thousands of endpoints, the tables do not show all of them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::write::escaped;

/// The name of the parameter.
const NAME: &str = "filter";
/// A longer text finds nothing.
const MAX_BYTES: usize = 256;

/// A text that the first columns of a row must contain. An empty one shows every row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter(String);

impl Filter {
    /// The filter in the query of the page's address.
    pub(crate) fn of_query(query: Option<&str>) -> Filter {
        let pairs = query.unwrap_or_default().split('&');
        let mut found = pairs.filter_map(|pair| pair.strip_prefix(NAME)?.strip_prefix('='));
        let text = found.next().unwrap_or_default().replace('+', " ");
        let text = percent_decode_str(&text).decode_utf8_lossy();
        let end = text.floor_char_boundary(MAX_BYTES);
        Filter(text.get(..end).unwrap_or_default().trim().to_owned())
    }

    /// Whether one of these texts contains the wanted one.
    pub(super) fn takes(&self, texts: &[&str]) -> bool {
        self.0.is_empty() || texts.iter().any(|text| text.contains(&*self.0))
    }

    /// The form that sets the filter. It needs no JavaScript.
    pub(super) fn form(&self, out: &mut String) {
        let value = if self.0.is_empty() {
            Cow::Borrowed("")
        } else {
            Cow::Owned(escaped(&self.0))
        };
        for part in [
            "<form><label>Show only <input type=\"search\" name=\"",
            NAME,
            "\" value=\"",
            &value,
            "\" placeholder=\"a route, a host, a name\"></label></form>",
        ] {
            out.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_comes_from_the_query() {
        for (query, text) in [
            (None, ""),
            (Some(""), ""),
            (Some("other=1"), ""),
            (Some("filter"), ""),
            (Some("filter=/a%2Fb"), "/a/b"),
            (Some("x=1&filter=GET+%2F&filter=no"), "GET /"),
            (Some("filter=%ff%zz%"), "\u{fffd}%zz%"),
        ] {
            assert_eq!(Filter::of_query(query).0, text, "{query:?}");
        }
        let long = format!("filter={}", "ä".repeat(1000));
        assert_eq!(Filter::of_query(Some(&long)).0.len(), MAX_BYTES);
    }

    #[test]
    fn a_filter_is_escaped_in_its_form() {
        let mut out = String::new();
        Filter::of_query(Some("filter=%22%3E%3Cscript%3E")).form(&mut out);
        assert!(
            !out.contains("<script") && out.contains("&#34;&gt;&lt;script"),
            "{out}"
        );
    }
}
