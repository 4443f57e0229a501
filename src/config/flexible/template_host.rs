//! What a running template may access: partials, environment variables, and the name of the time zone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Watched, variable};
use crate::config::environment::Environment;
use crate::config::load;
use crate::config::template::{Host, clean_path};

/// Shorter values are not treated as secrets: masking them would mask half of the text.
const MIN_SECRET: usize = 4;

/// The environment and the partials of one rendering.
pub(super) struct TemplateHost<'e> {
    environment: &'e Environment,
    folder: Option<&'e str>,
    /// Each partial is read once, so that one rendering always sees the same content.
    partials: Mutex<BTreeMap<PathBuf, Option<Arc<str>>>>,
    /// The partials by the name that a template writes, which costs no path: loops include a partial thousands of
    /// times.
    named: Mutex<BTreeMap<String, Option<Arc<str>>>>,
    secrets: Mutex<BTreeSet<String>>,
}

impl<'e> TemplateHost<'e> {
    pub(super) fn new(environment: &'e Environment) -> TemplateHost<'e> {
        TemplateHost {
            environment,
            folder: variable(environment, "FC_PARTIALS"),
            partials: Mutex::default(),
            named: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// The partials that were requested, whether they exist or not.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let partials = locked(&self.partials);
        partials.keys().cloned().map(Watched::File).collect()
    }

    /// The values of the environment variables that were requested, in each spelling in which they may appear in the
    /// text, longest first.
    pub(super) fn into_secrets(self) -> Vec<String> {
        let secrets = self
            .secrets
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<String> = secrets.into_iter().flat_map(spellings).collect();
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        all
    }

    fn path_of(&self, name: &str) -> PathBuf {
        match self.folder {
            Some(folder) => PathBuf::from(clean_path(&format!("{folder}/{name}"))),
            None => PathBuf::from(name),
        }
    }
}

/// The value itself, as a JSON string, and in base64.
fn spellings(secret: String) -> Vec<String> {
    let quoted = serde_json::Value::from(secret.as_str()).to_string();
    let encoded = BASE64_STANDARD.encode(&secret);
    vec![quoted[1..quoted.len() - 1].to_owned(), encoded, secret]
}

/// `text` with `***` in place of every secret.
pub(super) fn masked(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| {
        if text.contains(&**secret) {
            text.replace(&**secret, "***")
        } else {
            text
        }
    })
}

/// From this length on, a secret is masked inside of words too.
const LONG_SECRET: usize = 8;

/// A message with `***` in place of every secret, in any case of its letters that messages use. A short one may be a
/// part of a word by chance, so it counts only as a whole word.
pub(super) fn masked_message(text: &str, secrets: &[String]) -> String {
    let mut out = text.to_owned();
    for secret in secrets {
        for spelling in [secret.clone(), secret.to_lowercase(), secret.to_uppercase()] {
            if out.contains(&spelling) {
                out = without_word(&out, &spelling);
            }
        }
    }
    out
}

fn without_word(text: &str, word: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        let end = at + word.len();
        let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let is_part =
            is_letter(text[..at].chars().next_back()) || is_letter(text[end..].chars().next());
        if word.len() >= LONG_SECRET || !is_part {
            out.push_str(&text[from..at]);
            out.push_str("***");
            from = end;
        }
    }
    out.push_str(&text[from..]);
    out
}

impl Host for TemplateHost<'_> {
    fn environment(&self, name: &str) -> Option<String> {
        let value = self.environment.get(name)?;
        if value.len() >= MIN_SECRET {
            locked(&self.secrets).insert(value.to_owned());
        }
        Some(value.to_owned())
    }

    fn partial(&self, name: &str) -> Result<Option<Arc<str>>, String> {
        if let Some(known) = locked(&self.named).get(name) {
            return Ok(known.clone());
        }
        let path = self.path_of(name);
        let mut partials = locked(&self.partials);
        let content = match partials.get(&path) {
            Some(known) => known.clone(),
            None => read(&path)?.map(Arc::from),
        };
        partials.insert(path, content.clone());
        locked(&self.named).insert(name.to_owned(), content.clone());
        Ok(content)
    }

    fn is_outside(&self, name: &str) -> bool {
        // The usual name leads nowhere else.
        if !name.contains("..") && !name.starts_with('/') {
            return false;
        }
        let Some(folder) = self.folder else {
            return false;
        };
        let folder = PathBuf::from(clean_path(folder));
        folder != Path::new(".") && !self.path_of(name).starts_with(folder)
    }

    fn zone(&self) -> Option<String> {
        self.environment.get("TZ").map(str::to_owned)
    }
}

/// `None` for what KrakenD treats as empty: missing files, folders, and files without read permission.
fn read(path: &Path) -> Result<Option<String>, String> {
    let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
    if !is_file || std::fs::File::open(path).is_err() {
        return Ok(None);
    }
    load::read(path).map(Some)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete, so a poisoned lock is safe to use.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
