//! Why a call failed or a connection ended.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::command::Command;
use crate::telemetry::mask::KnownSecrets;
use crate::telemetry::sanitize::printable;

/// The most characters of a server's own text that are kept.
const MAX_SHOWN: usize = 256;

/// Why a connection ended, or could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectionError {
    /// The server cannot be reached. With the reason.
    Connect(String),
    /// The TLS handshake failed. With the reason.
    Tls(String),
    /// The server rejects the credentials, the database, or the role of this connection. With its text, as far as it may
    /// be shown.
    Setup(String),
    /// The other side closed the connection, or it broke. With the reason.
    Closed(String),
    /// No reply in time.
    Silent,
    /// What arrives is not RESP2, or not the reply to a command.
    Malformed,
    /// A reply is nested too deeply.
    TooDeep,
    /// A reply has too many bytes.
    TooLarge,
    /// No sentinel knows the server. With the reason.
    Sentinel(String),
    /// The server has become a replica.
    ReadOnly,
}

impl ConnectionError {
    /// One word of a closed list, for the metric.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            ConnectionError::Connect(_) => "connect",
            ConnectionError::Tls(_) => "tls",
            ConnectionError::Setup(_) => "setup",
            ConnectionError::Closed(_) => "closed",
            ConnectionError::Silent => "timeout",
            ConnectionError::Malformed => "malformed",
            ConnectionError::TooDeep => "too_deep",
            ConnectionError::TooLarge => "too_large",
            ConnectionError::Sentinel(_) => "sentinel",
            ConnectionError::ReadOnly => "read_only",
        }
    }

    pub(super) fn closed(error: &io::Error) -> ConnectionError {
        ConnectionError::Closed(error.to_string())
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionError::Connect(why)
            | ConnectionError::Setup(why)
            | ConnectionError::Sentinel(why) => f.write_str(why),
            ConnectionError::Tls(why) => write!(f, "TLS: {why}"),
            ConnectionError::Closed(why) => write!(f, "the connection was closed: {why}"),
            ConnectionError::Silent => f.write_str("no response in time"),
            ConnectionError::Malformed => f.write_str("the response does not come from a Redis"),
            ConnectionError::TooDeep => f.write_str("a reply is nested too deeply"),
            ConnectionError::TooLarge => f.write_str("a reply is too large"),
            ConnectionError::ReadOnly => f.write_str("the server has become a replica"),
        }
    }
}

/// Why a command has no usable reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The server's error, such as `NOSCRIPT …`.
    Server(Complaint),
    NotConnected,
    /// The connection was lost before the reply.
    Lost,
    /// Too many commands wait.
    TooMany,
    Timeout,
    /// The type of the reply does not match the command.
    Unexpected,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Server(why) => why.fmt(f),
            CallError::NotConnected => f.write_str("not connected"),
            CallError::Lost => f.write_str("the connection was lost"),
            CallError::TooMany => f.write_str("too many commands wait"),
            CallError::Timeout => f.write_str("no response in time"),
            CallError::Unexpected => f.write_str("an unexpected reply"),
        }
    }
}

/// The text of a server's error. The server may repeat the credentials that it got, so what is shown is without them.
#[derive(Clone)]
pub(crate) struct Complaint {
    /// On one line, shortened.
    text: String,
    secrets: Arc<KnownSecrets>,
    /// What it is the reply to.
    sent: Option<Command>,
}

impl Complaint {
    pub(super) fn new(text: &[u8], secrets: &Arc<KnownSecrets>) -> Complaint {
        let text = String::from_utf8_lossy(text);
        let text: String = text.chars().take(MAX_SHOWN).collect();
        Complaint {
            text: printable(&text).into_owned(),
            secrets: Arc::clone(secrets),
            sent: None,
        }
    }

    /// The reply to this command, whose values are not shown either.
    pub(super) fn to(self, sent: Command) -> Complaint {
        let sent = Some(sent);
        Complaint { sent, ..self }
    }

    /// The text of the server, to find out which error it is. Nothing may show it.
    pub(crate) fn raw(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut secrets = KnownSecrets::clone(&self.secrets);
        for value in self.sent.iter().flat_map(Command::values) {
            secrets.add_long(&String::from_utf8_lossy(value));
        }
        f.write_str(&secrets.shown_or_note(&self.text))
    }
}

impl fmt::Debug for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Complaint {
    fn eq(&self, other: &Complaint) -> bool {
        self.text == other.text
    }
}

impl Eq for Complaint {}
