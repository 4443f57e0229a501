//! Numbers as KrakenD's validator formats them: limits and counts in the English format, values of a schema as they
//! are.

use serde_json::Number;

/// A limit: `1,000`, `0.5`, `1×10⁰⁶`.
pub(super) fn english(number: f64) -> String {
    // Removes the sign of a zero.
    let number = number + 0.0;
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            format!("{digits}×10{}", superscript(exponent))
        }
        _ => grouped(&number.to_string()),
    }
}

/// A number of characters, items or members: `1,000`.
pub(super) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// A number of the schema.
pub(super) fn plain(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    if float == 0.0 || (1e-6..1e21).contains(&float.abs()) {
        (float + 0.0).to_string()
    } else {
        let text = format!("{float:e}");
        if text.contains("e-") {
            text
        } else {
            text.replace('e', "e+")
        }
    }
}

/// At least two digits.
fn superscript(exponent: i32) -> String {
    let sign = if exponent < 0 { "⁻" } else { "" };
    let digits = format!("{:02}", exponent.unsigned_abs());
    let raised = digits.bytes().map(|digit| match digit {
        b'1' => '¹',
        b'2' => '²',
        b'3' => '³',
        b'4' => '⁴',
        b'5' => '⁵',
        b'6' => '⁶',
        b'7' => '⁷',
        b'8' => '⁸',
        b'9' => '⁹',
        _ => '⁰',
    });
    sign.chars().chain(raised).collect()
}

/// Inserts a comma before each three digits of the whole part.
fn grouped(number: &str) -> String {
    let end = number.find('.').unwrap_or(number.len());
    let mut out = String::with_capacity(number.len() + 4);
    for (index, letter) in number.chars().enumerate() {
        let left = end.saturating_sub(index);
        if left > 0 && left % 3 == 0 && out.ends_with(|before: char| before.is_ascii_digit()) {
            out.push(',');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_use_the_english_format() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (-1000.0, "-1,000"),
            (100_000.0, "100,000"),
            (999_999.0, "999,999"),
            (1234.5678, "1,234.5678"),
            (0.0001, "0.0001"),
            (0.00001, "1×10⁻⁰⁵"),
            (1_000_000.0, "1×10⁰⁶"),
            (-1_234_567.0, "-1.234567×10⁰⁶"),
            (12_345_678_901.0, "1.2345678901×10¹⁰"),
            (1.5e300, "1.5×10³⁰⁰"),
        ] {
            assert_eq!(english(number), expected);
        }
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn values_are_unchanged() {
        for (text, expected) in [
            ("1.0", "1"),
            ("1e6", "1000000"),
            ("-0.5", "-0.5"),
            ("0.00001", "0.00001"),
            ("1e-7", "1e-7"),
            ("1e21", "1e+21"),
            ("12345678901234567890", "12345678901234567890"),
        ] {
            assert_eq!(plain(&serde_json::from_str(text).unwrap()), expected);
        }
    }
}
