//! Identifiers, versions and pointers.

use super::super::quote;
use super::{Reason, digits, err};

pub(super) fn uuid(text: &str) -> Result<(), Reason> {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    if text.split('-').count() != LENGTHS.len() {
        return err("must have 5 elements");
    }
    for (index, (part, length)) in text.split('-').zip(LENGTHS).enumerate() {
        if part.len() != length {
            let place = index + 1;
            return Err(format!("element {place} must be {length} characters long").into());
        }
        if let Some(bad) = part.chars().find(|letter| !letter.is_ascii_hexdigit()) {
            return Err(format!("non-hex character {}", quote::letter(bad)).into());
        }
    }
    Ok(())
}

pub(super) fn json_pointer(text: &str) -> Result<(), Reason> {
    if !text.is_empty() && !text.starts_with('/') {
        return err("not starting with /");
    }
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '~' && !matches!(letters.next(), Some('0' | '1')) {
            return err("~ must be followed by 0 or 1");
        }
    }
    Ok(())
}

pub(super) fn relative_json_pointer(text: &str) -> Result<(), Reason> {
    let (levels, rest) = digits(text);
    if levels.is_empty() {
        return err("must start with non-negative integer");
    }
    if levels.len() > 1 && levels.starts_with('0') {
        return err("starts with zero");
    }
    match rest {
        "#" => Ok(()),
        pointer => json_pointer(pointer),
    }
}

pub(super) fn semver(text: &str) -> Result<(), Reason> {
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    if build == Some("") {
        return err("build is empty");
    }
    for part in build.iter().flat_map(|build| build.split('.')) {
        identifier(part, "build")?;
    }
    let (core, before) = match text.split_once('-') {
        Some((core, before)) => (core, Some(before)),
        None => (text, None),
    };
    for part in before.iter().flat_map(|before| before.split('.')) {
        identifier(part, "pre-release")?;
        if part.len() > 1 && part.starts_with('0') && digits(part).1.is_empty() {
            return err("pre-release numeric identifier starts with zero");
        }
    }
    if core.split('.').count() != 3 {
        return err("versionCore must have 3 numbers separated by dot");
    }
    core.split('.')
        .zip(["major", "minor", "patch"])
        .try_for_each(|(number, name)| version(number, name))
}

fn identifier(part: &str, what: &str) -> Result<(), Reason> {
    if part.is_empty() {
        return Err(format!("{what} identifier is empty").into());
    }
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    match part.chars().find(|letter| !fits(*letter)) {
        Some(bad) => {
            let bad = quote::letter(bad);
            Err(format!("invalid character {bad} in {what} identifier").into())
        }
        None => Ok(()),
    }
}

fn version(number: &str, name: &str) -> Result<(), Reason> {
    let wrong = match digits(number) {
        _ if number.is_empty() => "is empty",
        _ if number.len() > 1 && number.starts_with('0') => "starts with zero",
        (_, "") => return Ok(()),
        _ => "contains non-digit",
    };
    Err(format!("{name} {wrong}").into())
}
