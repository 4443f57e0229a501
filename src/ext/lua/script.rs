//! A compiled block: its texts, and the file of each line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{Place, Stop};
use super::pool::Pool;
use crate::named_file;
use crate::upstream::HostRules;

/// Longer sources are rejected, including those that are read for each request.
pub(super) const MAX_SOURCE_BYTES: u64 = 4 << 20;

/// The place of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// `ctx`: the client's request.
    Endpoint,
    /// `request` and `response`, around the endpoint's work.
    Proxy,
    /// `request` and `response`, around a call.
    Backend,
}

impl Level {
    /// The name for `prelude.lua`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Endpoint => "endpoint",
            Level::Proxy => "proxy",
            Level::Backend => "backend",
        }
    }
}

/// A text that is loaded and run as a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Sources,
    Pre,
    Post,
}

impl Part {
    /// The name in Lua's messages.
    pub(super) fn chunk(self) -> &'static str {
        match self {
            Part::Sources => "sources",
            Part::Pre => "pre-script",
            Part::Post => "post-script",
        }
    }
}

/// The files of `sources`.
#[derive(Debug)]
pub(super) enum Sources {
    None,
    /// Read at start.
    Fixed(Joined),
    /// Read for each request: the name in the configuration, and the path.
    Live(Box<[(Box<str>, PathBuf)]>),
}

/// Several files as one text, as KrakenD runs them: a local of one file is visible in the next.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    pub(super) text: Arc<str>,
    /// Each file's name and its first line in the joined text, starting at 1.
    begins: Arc<[(Box<str>, usize)]>,
}

impl Joined {
    pub(super) fn new(files: &[(Box<str>, String)]) -> Joined {
        let mut text = String::new();
        let mut begins = Vec::new();
        let mut line = 1;
        for (name, content) in files {
            begins.push((name.clone(), line));
            line += 1 + content.bytes().filter(|byte| *byte == b'\n').count();
            text.push_str(content);
            text.push('\n');
        }
        Joined {
            text: text.into(),
            begins: begins.into(),
        }
    }

    /// The file that contains `line` of the joined text, and the line in that file.
    pub(super) fn place(&self, line: usize) -> Option<(&str, usize)> {
        let (name, begins) = self.begins.iter().rfind(|(_, begins)| *begins <= line)?;
        Some((name, line - begins + 1))
    }
}

/// One compiled block.
#[derive(Debug)]
pub(super) struct Script {
    /// Its number in the pool.
    pub(super) id: usize,
    pub(super) level: Level,
    pub(super) sources: Sources,
    pub(super) pre: Option<Arc<str>>,
    pub(super) post: Option<Arc<str>>,
    pub(super) open_libs: bool,
    pub(super) skip_next: bool,
    /// One of its texts uses `__len`, so `#` respects it in all of them.
    pub(super) lengths: bool,
    /// It may read a body, which is then read first.
    pub(super) reads_body: bool,
    /// The rules of redirects for its calls.
    pub(super) rules: HostRules,
    pub(super) pool: Arc<Pool>,
}

impl Script {
    /// The current sources.
    ///
    /// # Errors
    /// A file that is read for each request is missing, or is not text.
    pub(super) async fn joined(&self) -> Result<Option<Joined>, Stop> {
        let files = match &self.sources {
            Sources::None => return Ok(None),
            Sources::Fixed(joined) => return Ok(Some(joined.clone())),
            Sources::Live(files) => files,
        };
        let mut all = Vec::with_capacity(files.len());
        for (name, path) in files {
            let Some(text) = read(path).await else {
                let text = format!("lua: unable to load required source {name}");
                return Err(Stop::Error(text));
            };
            all.push((name.clone(), text));
        }
        Ok(Some(Joined::new(&all)))
    }

    /// The text of a part.
    pub(super) fn text(&self, part: Part, joined: Option<&Joined>) -> Option<Arc<str>> {
        match part {
            Part::Sources => joined.map(|joined| Arc::clone(&joined.text)),
            Part::Pre => self.pre.clone(),
            Part::Post => self.post.clone(),
        }
    }
}

/// A message with its place in KrakenD's format: `attempt to … (a.lua:L6)`.
pub(super) fn placed(message: &str, place: Option<&Place>, joined: Option<&Joined>) -> String {
    let Some(place) = place else {
        return message.to_owned();
    };
    let known = match &*place.chunk {
        "sources" => joined.and_then(|joined| joined.place(place.line)),
        _ => None,
    };
    let (name, line) = known.unwrap_or((&place.chunk, place.line));
    format!("{message} ({name}:L{line})")
}

/// Reads a text file on a separate thread, so that a slow disk does not block other requests.
async fn read(path: &Path) -> Option<String> {
    let read = named_file::read_text_aside(path, MAX_SOURCE_BYTES);
    read.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_per_file() {
        let joined = Joined::new(&[
            ("a.lua".into(), "one\ntwo".to_owned()),
            ("b.lua".into(), "three\n".to_owned()),
            ("c.lua".into(), String::new()),
        ]);
        assert_eq!(&*joined.text, "one\ntwo\nthree\n\n\n");
        for (line, place) in [
            (1, ("a.lua", 1)),
            (2, ("a.lua", 2)),
            (3, ("b.lua", 1)),
            (4, ("b.lua", 2)),
            (5, ("c.lua", 1)),
        ] {
            assert_eq!(joined.place(line), Some(place));
        }
        assert_eq!(joined.place(0), None);
    }
}
