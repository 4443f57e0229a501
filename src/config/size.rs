//! Sizes in bytes: `1048576`, `"512KiB"`, `"8MiB"`, `"1GB"`.

const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// Parses a whole number and a unit. `None` for any other text.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.trim_start();
    let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        assert_eq!(parse("1048576"), Some(1_048_576));
        assert_eq!(parse("8MiB"), Some(8 << 20));
        assert_eq!(parse("1 GB"), Some(1_000_000_000));
        for wrong in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "1mib",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
