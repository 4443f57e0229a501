//! What a process fetched from providers, in lines that it passes to the process which takes over from it.
//!
//! A line has five fields, separated by blanks: its kind, the SHA-256 digest of what the value was fetched for, the age of the
//! value and how long it lives, both in milliseconds (`-` if that is unknown), and the value in base64. Lines of another
//! form, or for something else than this configuration, are ignored.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// The most text that is passed on, in bytes. What has no space is fetched again.
const MAX_BYTES: usize = 32 << 20;

/// A value with its age.
#[derive(Debug)]
pub(crate) struct Passed {
    pub age: Duration,
    pub life: Option<Duration>,
    pub value: Bytes,
}

/// Adds the line of a value that was fetched for `of`. Returns `false` if there is no space for it.
#[must_use]
pub(crate) fn write(text: &mut String, kind: &str, of: &impl Hash, passed: &Passed) -> bool {
    let life = match passed.life {
        Some(life) => life.as_millis().to_string(),
        None => "-".to_owned(),
    };
    let value = STANDARD.encode(&passed.value);
    let has_space = text.len() + value.len() < MAX_BYTES;
    if has_space {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{kind} {} {} {life} {value}",
            digest(of),
            passed.age.as_millis()
        );
    }
    has_space
}

/// Like [`write`], for lines of text that are neither older nor younger than others.
#[must_use]
pub(crate) fn write_text(text: &mut String, kind: &str, of: &impl Hash, lines: String) -> bool {
    let passed = Passed {
        age: Duration::ZERO,
        life: None,
        value: Bytes::from(lines),
    };
    write(text, kind, of, &passed)
}

/// Logs that so many values had no space, if there are any.
pub(crate) fn warn_left_out(left_out: usize, prefix: &str, what: &str) {
    if left_out > 0 {
        log::warn!(
            "{prefix} {left_out} {what} are not passed to the new process, because all together are too large: it fetches them again"
        );
    }
}

/// The lines of one kind, by their digests.
#[derive(Debug)]
pub(crate) struct Lines<'t>(HashMap<&'t str, &'t str>);

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str, kind: &str) -> Lines<'t> {
        let of_kind = |line: &'t str| {
            let rest = line.strip_prefix(kind)?.strip_prefix(' ')?;
            rest.split_once(' ')
        };
        Lines(text.lines().filter_map(of_kind).collect())
    }

    /// The value that was fetched for `of`.
    pub(crate) fn find(&self, of: &impl Hash) -> Option<Passed> {
        self.get(&digest(of))
    }

    /// The text that [`write_text`] wrote for `of`. Empty if there is none.
    pub(crate) fn text(&self, of: &impl Hash) -> String {
        let value = self.find(of).map(|passed| passed.value);
        String::from_utf8(value.unwrap_or_default().into()).unwrap_or_default()
    }

    /// The digests of all lines, in no particular order.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &'t str> {
        self.0.keys().copied()
    }

    /// The value that was fetched for something with this digest.
    pub(crate) fn get(&self, digest: &str) -> Option<Passed> {
        let mut fields = self.0.get(digest)?.split(' ');
        let age = millis(fields.next()?)?;
        let life = match fields.next()? {
            "-" => None,
            life => Some(millis(life)?),
        };
        let value = STANDARD.decode(fields.next()?).ok()?;
        fields.next().is_none().then(|| Passed {
            age,
            life,
            value: Bytes::from(value),
        })
    }
}

fn millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

/// The digest of everything that `Hash` covers. Two programs that hash a value in another order do not find each other's
/// values.
pub(crate) fn digest(of: &impl Hash) -> String {
    let mut digest = Digest(Context::new(&SHA256));
    of.hash(&mut digest);
    hex::encode(digest.0.finish())
}

struct Digest(Context);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is longer.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_what_it_was_fetched_for_and_by_its_kind() {
        let mut text = String::from("\nnonsense\nkeys\nkeys x\n");
        let passed = |value: &'static str, life| Passed {
            age: Duration::from_millis(1500),
            life,
            value: Bytes::from_static(value.as_bytes()),
        };
        assert!(write(&mut text, "keys", &("a", 1), &passed("one", None)));
        let life = Some(Duration::from_secs(60));
        assert!(write(&mut text, "keys", &("a", 2), &passed("", life)));
        let keys = Lines::new(&text, "keys");
        let one = keys.find(&("a", 1)).unwrap();
        assert_eq!((one.age.as_millis(), one.life), (1500, None));
        assert_eq!(&one.value[..], b"one");
        let two = keys.find(&("a", 2)).unwrap();
        assert_eq!((two.life, two.value.is_empty()), (life, true));
        assert!(keys.find(&("a", 3)).is_none());
        assert!(Lines::new(&text, "token").find(&("a", 1)).is_none());
        let values = keys.digests().filter_map(|digest| keys.get(digest));
        assert_eq!(values.count(), 2, "those of the right form");
    }

    #[test]
    fn lines_of_another_form_are_ignored() {
        let known = digest(&7);
        for rest in [
            "",
            " 1",
            " 1 -",
            " -1 - YQ==",
            " 1 x YQ==",
            " 1 - %",
            " 1 - YQ== more",
        ] {
            let text = format!("keys {known}{rest}\n");
            assert!(Lines::new(&text, "keys").find(&7).is_none(), "{text}");
        }
        assert!(
            Lines::new(&format!("keys {known} 1 - YQ==\n"), "keys")
                .find(&7)
                .is_some()
        );
    }

    #[test]
    fn more_than_the_limit_is_not_passed_on() {
        let mut text = String::new();
        let passed = Passed {
            age: Duration::ZERO,
            life: None,
            value: Bytes::from(vec![b'x'; MAX_BYTES / 2]),
        };
        let written = [0, 1, 2].map(|number| write(&mut text, "keys", &number, &passed));
        assert_eq!(written.iter().filter(|written| **written).count(), 1);
        assert!(text.len() < MAX_BYTES + 1024 && text.lines().count() == 1);
    }
}
