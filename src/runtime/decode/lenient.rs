//! References in the XML of feeds, which often has those of HTML, or an `&` that is no reference. As in KrakenD, what
//! cannot be resolved stays as it is. Entities of a document type are never expanded.

use std::borrow::Cow;

use quick_xml::escape::{resolve_html5_entity, resolve_xml_entity};
use quick_xml::events::BytesRef;

use super::charset;

/// What the reference `&name;` stands for in text, where HTML's names are known.
pub(super) fn resolved_text(name: &str) -> Option<Cow<'static, str>> {
    match character(name) {
        // HTML reads these numbers as bytes of windows-1252, and feeds contain them.
        Some(old @ '\u{80}'..='\u{9f}') => {
            let byte = u8::try_from(old).ok()?;
            Some(Cow::Owned(charset::western_char(byte).to_string()))
        }
        Some(character) => Some(Cow::Owned(character.to_string())),
        None => resolve_html5_entity(name).map(Cow::Borrowed),
    }
}

/// The value of an attribute, where only the names of XML are known: addresses have parameters such as `&copy=1`.
pub(super) fn unescaped(value: &str) -> Cow<'_, str> {
    let Some(first) = value.find('&') else {
        return Cow::Borrowed(value);
    };
    let (plain, mut rest) = value.split_at(first);
    let mut text = plain.to_owned();
    while let Some(after) = rest.strip_prefix('&') {
        let end = after.find(['&', ';']).unwrap_or(after.len());
        let (name, more) = after.split_at(end);
        let known = more.strip_prefix(';').and_then(|more| {
            let text = match character(name) {
                Some(character) => character.to_string(),
                None => resolve_xml_entity(name)?.to_owned(),
            };
            Some((text, more))
        });
        let more = match known {
            Some((known, more)) => {
                text.push_str(&known);
                more
            }
            None => {
                text.push('&');
                text.push_str(name);
                more
            }
        };
        let next = more.find('&').unwrap_or(more.len());
        let (plain, more) = more.split_at(next);
        text.push_str(plain);
        rest = more;
    }
    Cow::Owned(text)
}

/// The character of `#233` or `#xE9`, if XML has it.
fn character(name: &str) -> Option<char> {
    let found = BytesRef::new(name).resolve_char_ref().ok().flatten();
    found.filter(|c| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_references_in_attributes_are_replaced() {
        for (value, want) in [
            ("", ""),
            ("a", "a"),
            ("&", "&"),
            ("?a=1&b=2", "?a=1&b=2"),
            ("?a=1&amp;b=2&amp;amp;", "?a=1&b=2&amp;"),
            ("&a&lt;b;&gt", "&a<b;&gt"),
            (
                "&copy;&copy=1;&#233;&#xE9;&#0;&#x;",
                "&copy;&copy=1;éé&#0;&#x;",
            ),
            ("é&é;é", "é&é;é"),
        ] {
            assert_eq!(unescaped(value), want);
        }
    }
}
