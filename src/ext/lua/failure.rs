//! Why a script ended early, and where.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use mlua::Error;

use super::tree::TreeError;
use crate::upstream::budget::Full;

/// The longest text of an error, in bytes, that is copied for the log and for scripts. See `prelude.lua`.
const MOST_MESSAGE: usize = 64 << 10;

/// The beginning of a text that is not longer than [`MOST_MESSAGE`].
fn brief(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_MESSAGE)]
}

/// How a script ended early.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stop {
    /// It raised `custom_error`.
    Custom(CustomError),
    /// An error of the script or of a function that it called. The place is part of the text.
    Error(String),
    /// It was still running at its deadline.
    Deadline,
    /// It runs long while too many others do.
    Busy,
    /// It requested more memory than it may have.
    Memory,
    /// The process holds as many bytes of bodies as it may.
    Full,
}

impl Stop {
    /// Whether the error says that the process holds too much.
    pub(super) fn is_full(error: &Error) -> bool {
        let of_tree = error.downcast_ref::<TreeError>();
        error.downcast_ref::<Full>().is_some() || matches!(of_tree, Some(TreeError::Crowded(_)))
    }

    /// The error that ends the script.
    pub(super) fn raised(self) -> Error {
        match self {
            Stop::Full => Error::external(Full),
            stop => Error::runtime(stop.text()),
        }
    }

    /// The text for the log, and for `return_error_msg` where the level shows it.
    pub(super) fn text(&self) -> String {
        match self {
            Stop::Custom(error) => brief(error.message()).to_owned(),
            Stop::Error(text) => text.clone(),
            Stop::Deadline => "lua: stopped at the deadline of its request".to_owned(),
            Stop::Busy => "lua: stopped, because too many long scripts run at once".to_owned(),
            Stop::Memory => "lua: not enough memory".to_owned(),
            Stop::Full => format!("lua: {Full}"),
        }
    }

    /// Whether the interpreter must not be reused: it may be in a state that is not safe, or, when memory is short, it
    /// still holds what the script has read until it is used again.
    pub(super) fn spoils(&self) -> bool {
        match self {
            Stop::Custom(_) | Stop::Error(_) => false,
            Stop::Deadline | Stop::Busy | Stop::Memory | Stop::Full => true,
        }
    }
}

/// `custom_error(message, status, content_type)`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.message())]
pub(super) struct CustomError {
    /// UTF-8. It holds its own charge, which lasts as long as its last copy: in Lua, or in the response.
    pub(super) body: Bytes,
    /// `None` if none was given, or one that is not valid for a response.
    pub(super) status: Option<StatusCode>,
    pub(super) content_type: Option<HeaderValue>,
}

impl CustomError {
    pub(super) fn message(&self) -> &str {
        str::from_utf8(&self.body).unwrap_or_default()
    }

    /// Whether a script that caught it has raised this message again.
    pub(super) fn is_again(&self, message: &str) -> bool {
        brief(self.message()) == message
    }
}

/// A place in a chunk: its name and a line that starts at 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) chunk: String,
    pub(super) line: usize,
}

/// A message, which is cut if it is long, and its place. Lua prepends the place to its own messages. Messages of functions written in Rust have it
/// only in the traceback.
pub(super) fn located(error: &Error) -> (String, Option<Place>) {
    match error {
        Error::CallbackError { traceback, cause } => {
            let mut inner: &Error = cause;
            while let Error::CallbackError { cause, .. } = inner {
                inner = cause;
            }
            let (message, place) = located(inner);
            (message, place.or_else(|| innermost(traceback)))
        }
        Error::WithContext { cause, .. } => located(cause),
        Error::RuntimeError(text) => {
            let (message, traceback) = text.split_once("\nstack traceback:").unwrap_or((text, ""));
            let (message, place) = split(message);
            match place {
                Some(place) if place.chunk == OURS => (message, innermost(traceback)),
                place => (message, place),
            }
        }
        Error::SyntaxError { message, .. } => split(message),
        Error::BadArgument { to, pos, cause, .. } => {
            let to = to.as_deref().unwrap_or("?");
            // Lua counts the object of a method as the first argument, but the author does not.
            let pos = if to.contains(['.', ':']) {
                pos - 1
            } else {
                *pos
            };
            (format!("bad argument #{pos} to {to}: {cause}"), None)
        }
        other => (brief(&other.to_string()).to_owned(), None),
    }
}

/// Parses `chunk:12: message`. A message of another form has no place.
pub(super) fn split(text: &str) -> (String, Option<Place>) {
    let parts = || {
        let (head, message) = text.split_once(": ")?;
        let (chunk, line) = head.rsplit_once(':')?;
        let line = line.parse().ok()?;
        let chunk = chunk.to_owned();
        Some((brief(message).to_owned(), Some(Place { chunk, line })))
    };
    parts().unwrap_or_else(|| (brief(text).to_owned(), None))
}

impl Place {
    pub(super) fn is_ours(&self) -> bool {
        self.chunk == OURS
    }
}

/// The chunk name of the gateway's own Lua code, which is not useful to the author of a script.
const OURS: &str = "prelude";

/// The first line of a traceback within a script: `\n\tpre-script:3: in main chunk`.
fn innermost(traceback: &str) -> Option<Place> {
    traceback.lines().find_map(|line| {
        let (head, _) = line.trim_start().split_once(": in ")?;
        let (chunk, line) = head.rsplit_once(':')?;
        let line = line.parse().ok()?;
        (chunk != OURS).then(|| Place {
            chunk: chunk.to_owned(),
            line,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_messages_of_lua() {
        let (message, place) = split("pre-script:12: attempt to index local 'x': really");
        assert_eq!(message, "attempt to index local 'x': really");
        let place = place.unwrap();
        assert_eq!((&*place.chunk, place.line), ("pre-script", 12));
        for text in ["no place", "a: b", "a:b: c", ""] {
            assert_eq!(split(text), (text.to_owned(), None));
        }
    }

    #[test]
    fn the_traceback_has_the_caller_of_our_functions() {
        let traceback = "stack traceback:\n\t[C]: in function 'custom_error'\n\tsources:3: in function 'f'\n\t\
                         pre-script:1: in main chunk";
        let place = innermost(traceback).unwrap();
        assert_eq!((&*place.chunk, place.line), ("sources", 3));
    }
}
