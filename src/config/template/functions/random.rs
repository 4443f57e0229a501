//! Functions that return a new value each time.

use std::net::ToSocketAddrs;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use super::Kind::{Int, Text};
use super::{Call, Function, Outcome, fixed, int, string};
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("uuidv4", &[], |_, _| uuid()),
    fixed("randAlphaNum", &[Int], |call, arguments| {
        letters(call, &arguments, |c| c.is_ascii_alphanumeric())
    }),
    fixed("randAlpha", &[Int], |call, arguments| {
        letters(call, &arguments, |c| c.is_ascii_alphabetic())
    }),
    fixed("randNumeric", &[Int], |call, arguments| {
        letters(call, &arguments, |c| c.is_ascii_digit())
    }),
    fixed("randAscii", &[Int], |call, arguments| {
        letters(call, &arguments, |c| (' '..='~').contains(&c))
    }),
    fixed("randBytes", &[Int], |call, arguments| {
        let count = usize::try_from(int(&arguments, 0))
            .map_err(|_| "makeslice: len out of range".to_owned())?;
        call.make(count.saturating_mul(2))?;
        let mut bytes = vec![0; count];
        fill(&mut bytes)?;
        Ok(Value::text(super::encoding::base64(&bytes)))
    }),
    fixed("randInt", &[Int, Int], |_, arguments| {
        let (low, high) = (int(&arguments, 0), int(&arguments, 1));
        if high <= low {
            return Err("invalid argument to Intn".to_owned());
        }
        let span = high.wrapping_sub(low) as u64;
        Ok(Value::Int(low.wrapping_add(below(span)? as i64)))
    }),
    fixed("shuffle", &[Text], |_, arguments| {
        let mut letters: Vec<char> = string(&arguments, 0).chars().collect();
        for index in (1..letters.len()).rev() {
            letters.swap(index, below(index as u64 + 1)? as usize);
        }
        Ok(Value::text(letters.into_iter().collect::<String>()))
    }),
    fixed("getHostByName", &[Text], resolve),
];

pub(super) fn fill(bytes: &mut [u8]) -> Result<(), String> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| "the system provides no random numbers".to_owned())
}

/// A number below `limit`, which is not zero. The bias of the remainder is below 2^-32 for all limits in use.
fn below(limit: u64) -> Result<u64, String> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok((u128::from_le_bytes(bytes) % u128::from(limit)) as u64)
}

fn letters(call: &mut Call<'_>, arguments: &[Value], fits: fn(char) -> bool) -> Outcome {
    let count =
        usize::try_from(int(arguments, 0)).map_err(|_| "the length is negative".to_owned())?;
    call.make(count)?;
    let set: Vec<char> = (' '..='~').filter(|c| fits(*c)).collect();
    let mut out = String::with_capacity(count);
    for index in 0..count {
        if index.is_multiple_of(1024) {
            call.budget.in_time()?;
        }
        out.push(set[below(set.len() as u64)? as usize]);
    }
    Ok(Value::text(out))
}

fn uuid() -> Outcome {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    // RFC 9562 §5.4: version 4, variant 10.
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    Ok(Value::text(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )))
}

/// Address literals and names in the hosts file resolve immediately. A name server has two seconds.
fn resolve(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let name = string(&arguments, 0);
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Ok(Value::text(name));
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let asked = name.clone();
    std::thread::spawn(move || {
        let _ = sender.send(lookup(&asked));
    });
    let found = receiver
        .recv_timeout(std::time::Duration::from_secs(2))
        .ok()
        .flatten();
    found
        .map(Value::text)
        .ok_or_else(|| format!("lookup {name}: no such host"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is a separate thread that serves no requests"
)]
fn lookup(name: &str) -> Option<String> {
    let mut found = (name, 0).to_socket_addrs().ok()?;
    found.next().map(|address| address.ip().to_string())
}
