//! Opens a connection to a server.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::address::Server;
use super::connection::{Client, opened};
use super::wire::{Frame, Info, Reader};
use crate::ext::broker::{Failed, Opened, Stream, dial, failed, secured};
use crate::upstream::race::Turn;

/// How long a server may send nothing before it is taken for one that waits for TLS.
const QUIET: Duration = Duration::from_secs(1);
/// How long connecting to one server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Opens a connection to one of the servers. If none works, it is the turn of other addresses of them.
pub(super) async fn open(
    servers: Arc<[Server]>,
    tls: Arc<ClientConfig>,
    most_bytes: u64,
    turn: Arc<Turn>,
) -> Result<Opened<Client>, Failed> {
    let mut reason = String::new();
    // Starts at a random one, so that several gateways do not all use the same server.
    for server in servers
        .iter()
        .cycle()
        .skip(random(servers.len()))
        .take(servers.len())
    {
        let attempt = connect(server, Arc::clone(&tls), most_bytes, &turn);
        match timeout(CONNECT, attempt)
            .await
            .unwrap_or_else(|_| Err("no reply in time".to_owned()))
        {
            Ok((info, reader)) => return Ok(opened(&info, reader)),
            Err(why) => reason = why,
        }
    }
    turn.next();
    Err(Failed::from(reason))
}

/// A number below `most`.
fn random(most: usize) -> usize {
    let mut byte = [0];
    let filled = aws_lc_rs::rand::fill(&mut byte);
    filled.map_or(0, |()| usize::from(byte[0]) % most.max(1))
}

/// Connects to a server up to its first PONG.
async fn connect(
    server: &Server,
    tls: Arc<ClientConfig>,
    most_bytes: u64,
    turn: &Turn,
) -> Result<(Info, Reader<Stream>), String> {
    let stream = dial(server.name(), server.port, turn).await?;
    let mut reader = Reader::new(stream, most_bytes);
    let greeted = match timeout(QUIET, reader.next()).await {
        Ok(greeted) => Some(info(greeted?)?),
        // The server waits for TLS (`handshake_first`).
        Err(_) if server.tls && reader.is_empty() => None,
        Err(_) => Some(info(reader.next().await?)?),
    };
    let is_plain = greeted
        .as_ref()
        .is_some_and(|info| !info.tls_required && !info.tls_available);
    if server.tls && is_plain {
        return Err("the server does not offer TLS".to_owned());
    }
    let uses_tls = server.tls || greeted.as_ref().is_some_and(|info| info.tls_required);
    if uses_tls {
        let stream = secured(reader.into_stream()?, server.name(), tls).await?;
        reader = Reader::new(stream, most_bytes);
    }
    let mut info = match greeted {
        Some(info) => info,
        None => info(reader.next().await?)?,
    };
    reader.hide(&server.credentials);
    let greeting = format!("CONNECT {}\r\nPING\r\n", introduction(server, uses_tls));
    let stream = reader.stream();
    stream
        .write_all(greeting.as_bytes())
        .await
        .map_err(|error| failed(&error))?;
    stream.flush().await.map_err(|error| failed(&error))?;
    loop {
        match reader.next().await? {
            Frame::Pong => return Ok((info, reader)),
            Frame::Info(newer) => info = newer,
            Frame::Error(why) => return Err(why.shown),
            _ => {}
        }
    }
}

/// The first frame of a server.
fn info(frame: Frame) -> Result<Info, String> {
    match frame {
        Frame::Info(info) => Ok(info),
        _ => Err("the server does not begin with INFO".to_owned()),
    }
}

/// The options of a connection, in JSON.
fn introduction(server: &Server, uses_tls: bool) -> serde_json::Value {
    let credentials = &server.credentials;
    let mut options = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": uses_tls,
        "name": "portcullis",
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "echo": true,
        "headers": true,
        "no_responders": false,
    });
    for (name, value) in [
        ("user", &credentials.user),
        ("pass", &credentials.password),
        ("auth_token", &credentials.token),
    ] {
        if let Some(value) = value {
            options[name] = json!(value);
        }
    }
    options
}
