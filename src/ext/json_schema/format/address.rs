//! Host names, host addresses and e-mail addresses.

use std::net::Ipv6Addr;

use super::super::quote;
use super::{Reason, err, within};

pub(super) fn ipv4(text: &str) -> Result<(), Reason> {
    if text.split('.').count() != 4 {
        return err("expected four decimals");
    }
    text.split('.').try_for_each(decimal)
}

fn decimal(part: &str) -> Result<(), Reason> {
    if part.len() > 1 && part.starts_with('0') {
        return err("leading zeros");
    }
    match part.parse::<i64>() {
        Ok(0..=255) => Ok(()),
        Ok(_) => err("decimal must be between 0 and 255"),
        Err(_) => Err(format!(
            "strconv.Atoi: parsing {}: {}",
            quote::double(part),
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                "invalid syntax"
            } else {
                "value out of range"
            }
        )
        .into()),
    }
}

pub(super) fn ipv6(text: &str) -> Result<(), Reason> {
    if !text.contains(':') {
        return err("missing colon");
    }
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    match (address.parse::<Ipv6Addr>(), zone) {
        (Ok(_), None) => Ok(()),
        (Ok(_), Some(zone)) if !zone.is_empty() => err("zone id is not a part of ipv6 address"),
        _ => Err(format!("ParseAddr({}): unable to parse IP", quote::double(text)).into()),
    }
}

pub(super) fn hostname(text: &str) -> Result<(), Reason> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.len() > 253 {
        return err("more than 253 characters long");
    }
    text.split('.').try_for_each(label)
}

fn label(label: &str) -> Result<(), Reason> {
    if !(1..=63).contains(&label.len()) {
        return err("label must be 1 to 63 characters long");
    }
    if label.starts_with('-') {
        return err("label starts with hyphen");
    }
    if label.ends_with('-') {
        return err("label ends with hyphen");
    }
    only(label, |letter| {
        letter.is_ascii_alphanumeric() || letter == '-'
    })
}

fn only(text: &str, fits: impl Fn(char) -> bool) -> Result<(), Reason> {
    match text.chars().find(|letter| !fits(*letter)) {
        Some(bad) => Err(format!("invalid character {}", quote::letter(bad)).into()),
        None => Ok(()),
    }
}

pub(super) fn email(text: &str) -> Result<(), Reason> {
    if text.len() > 254 {
        return err("more than 255 characters long");
    }
    let Some((local, domain)) = text.rsplit_once('@') else {
        return err("missing @");
    };
    if local.len() > 64 {
        return err("local part more than 64 characters long");
    }
    if local.len() > 1 && local.starts_with('"') {
        quoted_mailbox(local)?
    } else {
        mailbox(local)?
    }
    let bracketed = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        None => within("invalid domain", hostname(domain)),
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(address) => within("invalid ipv6 address", ipv6(address)),
            None => within("invalid ipv4 address", ipv4(address)),
        },
    }
}

/// KrakenD does not require the closing quote: it removes the last character, whatever it is.
fn quoted_mailbox(local: &str) -> Result<(), Reason> {
    let mut letters = local.chars();
    letters.next();
    letters.next_back();
    if letters.any(|letter| matches!(letter, '\\' | '"')) {
        err("backslash and quote are not allowed within quoted local part")
    } else {
        Ok(())
    }
}

fn mailbox(local: &str) -> Result<(), Reason> {
    if local.starts_with('.') {
        return err("starts with dot");
    }
    if local.ends_with('.') {
        return err("ends with dot");
    }
    if local.contains("..") {
        return err("consecutive dots");
    }
    only(local, |letter| {
        letter.is_ascii_alphanumeric() || ".!#$%&'*+-/=?^_`{|}~".contains(letter)
    })
}
