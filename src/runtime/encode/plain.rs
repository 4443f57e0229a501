//! Decides which texts YAML can contain without quotes.

/// Whether `text` can be written in block style without quotes: no parser of YAML 1.1 or 1.2 takes it for an
/// indicator, a comment or a value of another type.
pub(super) fn is_plain(text: &str) -> bool {
    begins_plain(text)
        && text.chars().all(is_printable)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !is_word(text)
        && !is_number(text)
        && !is_time(text)
}

/// YAML 1.2 §7.3.3: a plain text must not begin with an indicator. Three of them are allowed if no space follows.
fn begins_plain(text: &str) -> bool {
    let mut chars = text.chars();
    match chars.next() {
        None | Some(' ') => false,
        // Three in a row would separate documents.
        Some('-') => chars.next().is_some_and(|c| c != ' ') && !text.starts_with("---"),
        Some('?' | ':') => chars.next().is_some_and(|c| c != ' '),
        Some('.') => !text.starts_with("..."),
        Some(c) => !",[]{}#&*!|>'\"%@`".contains(c),
    }
}

/// YAML 1.2 §5.1, without tabs, without the line breaks of any version, and without the byte order mark.
pub(super) fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Null, booleans and the words for special numbers, in both versions; merge keys and the default value of version
/// 1.1.
fn is_word(text: &str) -> bool {
    const WORDS: [&str; 15] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "nan", "inf", "infinity",
        "<<", "=",
    ];
    let bare = unsigned(text);
    let bare = bare.strip_prefix('.').unwrap_or(bare);
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(bare))
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

/// A longer text that looks like a number is taken for one.
const MAX_NUMBER: usize = 4096;

/// Integers in any base, floats and sexagesimals. Version 1.1 allows `_` in all of them.
fn is_number(text: &str) -> bool {
    let text = unsigned(text);
    let first = text.trim_start_matches('_');
    if !first.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    // A long text is not copied.
    if text.len() > MAX_NUMBER {
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:+-".contains(&byte);
        return text.bytes().all(may_be);
    }
    let text = text.replace('_', "");
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let based = |prefix: [&str; 2], radix| {
        let mut prefixes = prefix.iter();
        prefixes.any(|prefix| {
            text.strip_prefix(prefix)
                .is_some_and(|rest| digits(rest, radix))
        })
    };
    text.parse::<f64>().is_ok()
        || based(["0x", "0X"], 16)
        || based(["0o", "0O"], 8)
        || based(["0b", "0B"], 2)
        || text.split(':').all(|part| part.parse::<f64>().is_ok())
}

/// Dates, and times that begin with a date (YAML 1.1).
fn is_time(text: &str) -> bool {
    let date = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let mut parts = date.split('-').map(|part| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then_some(part.len())
    });
    let ymd = [parts.next(), parts.next(), parts.next(), parts.next()];
    matches!(
        ymd,
        [Some(Some(4)), Some(Some(1 | 2)), Some(Some(1 | 2)), None]
    )
}
