//! Log lines for panics: the location, without any of the processed data.

use std::borrow::Cow;
use std::panic::PanicHookInfo;

use crate::telemetry::logger::CRITICAL;

/// Logs panics from now on. Panics of libraries may quote the text that they processed, including tokens, so the
/// message is truncated at its first quotation mark.
pub(crate) fn install() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(
            || "an unknown place".to_owned(),
            |at| format!("{}:{}", at.file(), at.line()),
        );
        log::error!(target: CRITICAL, "a defect at {place}: {}", message(info));
    }));
}

fn message<'i>(info: &'i PanicHookInfo<'_>) -> Cow<'i, str> {
    match info.payload_as_str() {
        Some(text) => harmless(text),
        None => Cow::Borrowed("no message"),
    }
}

fn harmless(text: &str) -> Cow<'_, str> {
    match text.split_once(['"', '\'', '`', '\n']) {
        Some((before, _)) => Cow::Owned(format!("{before}…")),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_in_a_message_is_not_shown() {
        for (text, shown) in [
            (
                "index out of bounds: the len is 3 but the index is 5",
                "index out of bounds: the len is 3 but the index is 5",
            ),
            (
                "byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of `éSECRET`",
                "byte index 1 is not a char boundary; it is inside …",
            ),
            (
                "called `Result::unwrap()` on an `Err` value: SECRET",
                "called …",
            ),
            ("odd: \"SECRET\"", "odd: …"),
        ] {
            assert_eq!(harmless(text), shown);
        }
    }
}
