//! Compiles the block. Every script is parsed here: KrakenD would find a syntax error only at the first request, and
//! would run without a script whose checksum does not match.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use md5::{Digest, Md5};

use super::config::{Block, ENDPOINT_KEYS, PIPE_KEYS};
use super::endpoint::LuaEndpoint;
use super::interpreter::Interpreter;
use super::missing_functions::{Missing, missing};
use super::pipe::LuaPipe;
use super::pool::Pool;
use super::script::{Joined, Level, MAX_SOURCE_BYTES, Script, Sources};
use super::syntax::speaks_of_len;
use crate::config::{ConfigError, Key, Node};
use crate::ext::context::{BackendSite, Compile, EndpointSite, ServiceTimeout};
use crate::ext::extension::{BackendPart, EndpointPart, ServicePart};
use crate::named_file;
use crate::upstream::{HostRules, SideClient};

/// The `User-Agent` of `http_response`.
const USER_AGENT: &str = concat!("Portcullis/", env!("CARGO_PKG_VERSION"));
/// The timeout of a service that sets none, as for an endpoint.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Functions with which a script loads code that cannot be inspected here.
const LOADERS: [&str; 5] = ["dofile", "loadfile", "loadstring", "load", "require"];

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let timeout = cx.fact::<ServiceTimeout>().map_or(TIMEOUT, |left| left.0);
    match client_script(node, cx) {
        Some(script) => ServicePart::Gate(Box::new(LuaEndpoint {
            script,
            timeout,
            place: "[SERVICE: Gin][Lua]".into(),
        })),
        None => ServicePart::Nothing,
    }
}

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    match client_script(node, cx) {
        Some(script) => EndpointPart::step(LuaEndpoint {
            script,
            timeout: site.timeout,
            place: format!("[ENDPOINT: {}]", site.pattern).into(),
        }),
        None => EndpointPart::Nothing,
    }
}

pub(super) fn proxy(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    match script(node, PIPE_KEYS, Level::Proxy, cx) {
        Some(script) => EndpointPart::Piped {
            steps: Vec::new(),
            pipes: vec![Box::new(LuaPipe { script })],
        },
        None => EndpointPart::Nothing,
    }
}

pub(super) fn backend(
    node: &Node<'_>,
    _site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(script(node, PIPE_KEYS, Level::Backend, cx).map(|script| LuaPipe { script }))
}

/// A script without code for after the request. `None` if it has no code for before it either.
fn client_script(node: &Node<'_>, cx: &mut Compile<'_>) -> Option<Arc<Script>> {
    let script = script(node, ENDPOINT_KEYS, Level::Endpoint, cx)?;
    if script.post.is_some() {
        let post = node.get("post").unwrap_or_else(|| node.clone());
        post.warn_hint(
            ConfigError::invalid(
                "\"post\" has no effect here: the script runs before the endpoint",
            ),
            "\"modifier/lua-proxy\" has a script for the response",
        );
    }
    let acts = script.pre.is_some() || !matches!(script.sources, Sources::None);
    acts.then_some(script)
}

fn script(
    node: &Node<'_>,
    keys: &'static [Key],
    level: Level,
    cx: &mut Compile<'_>,
) -> Option<Arc<Script>> {
    let errors = cx.report.config_errors();
    let block = Block::read(node, keys)?;
    let pool = pool(node, cx)?;
    let interpreter = match pool.take() {
        Ok(interpreter) => interpreter,
        Err(stop) => {
            node.invalid(stop.text());
            return None;
        }
    };
    for (key, code) in [("pre", block.pre), ("post", block.post)] {
        if let (Some(code), Some(place)) = (code, block.block.get(key)) {
            parse(&interpreter, &place, &format!("{key}-script"), code);
        }
    }
    let files = files(&block, &interpreter, cx);
    pool.give_back(interpreter, false);
    if block.open_libs {
        report_missing(&block, &files);
    }
    if cx.report.config_errors() != errors {
        return None;
    }
    if block.pre.is_none() && block.post.is_none() && block.sources.is_empty() && !block.skip_next {
        node.warn(ConfigError::invalid("there is no script here"));
        return None;
    }
    let before = || {
        let sources = files.iter().map(|(_, text)| &**text);
        sources.chain(block.pre)
    };
    let texts = || before().chain(block.post);
    let reads_body = block.live || texts().any(may_read_body);
    // A script of a backend sees only the cookies that the endpoint lets pass.
    if level != Level::Backend && before().any(names_cookies) {
        cx.browsers_send("a script decides by cookies, and browsers send cookies with it");
    }
    let lengths = texts().any(speaks_of_len);
    Some(Arc::new(Script {
        id: pool.script(),
        level,
        reads_body,
        pre: block.pre.map(Arc::from),
        post: block.post.map(Arc::from),
        open_libs: block.open_libs,
        skip_next: block.skip_next,
        lengths,
        sources: match (block.sources.is_empty(), block.live) {
            (true, _) => Sources::None,
            (false, false) => Sources::Fixed(Joined::new(&files)),
            (false, true) => {
                let live = block.sources.iter();
                let paths = live.map(|(name, _)| (Box::from(&**name), cx.path(name)));
                Sources::Live(paths.collect())
            }
        },
        rules: cx
            .fact::<HostRules>()
            .map_or_else(HostRules::default, |rules| *rules),
        pool,
    }))
}

/// The interpreters that all scripts of a service share.
fn pool(node: &Node<'_>, cx: &mut Compile<'_>) -> Option<Arc<Pool>> {
    if let Some(pool) = cx.fact::<Pool>() {
        return Some(pool);
    }
    match SideClient::new(&cx.client_tls(), &HeaderValue::from_static(USER_AGENT)) {
        Ok(client) => {
            let pool = Arc::new(Pool::new(client));
            cx.set_fact(Arc::clone(&pool));
            Some(pool)
        }
        Err(error) => {
            node.invalid(error.to_string());
            None
        }
    }
}

fn parse(interpreter: &Interpreter, place: &Node<'_>, name: &str, code: &str) {
    if let Err((message, line)) = interpreter.parse(name, code) {
        let line = line.map_or_else(String::new, |line| format!(" ({name}:L{line})"));
        place.invalid(format!("not Lua: {message}{line}"));
    }
}

/// Reports functions that scripts use and that do not exist here. Without `allow_open_libs` KrakenD does not have them
/// either.
fn report_missing(block: &Block<'_>, files: &[(Box<str>, String)]) {
    let mut texts: Vec<(Option<Node<'_>>, &str, &str)> = Vec::new();
    for (name, text) in files {
        let source = block.sources.iter().find(|(source, _)| **source == **name);
        let place = source.map(|(_, place)| place.clone());
        texts.push((place, &**name, text.as_str()));
    }
    for (key, file, code) in [
        ("pre", "pre-script", block.pre),
        ("post", "post-script", block.post),
    ] {
        texts.extend(code.map(|code| (block.block.get(key), file, code)));
    }
    let codes: Vec<&str> = texts.iter().map(|(_, _, text)| *text).collect();
    for Missing { text, name, line } in missing(&codes) {
        if let Some((Some(place), file, _)) = texts.get(text) {
            place.config_error_hint(
                ConfigError::invalid(format!("{name} does not exist here ({file}:L{line})")),
                "docs/lua.md lists what scripts cannot use",
            );
        }
    }
}

/// Checks that the sources, as far as they can be read, are Lua and match their checksums.
fn files(
    block: &Block<'_>,
    interpreter: &Interpreter,
    cx: &Compile<'_>,
) -> Vec<(Box<str>, String)> {
    let mut files: Vec<(Box<str>, String)> = Vec::new();
    let config_errors = cx.report.config_errors();
    for (name, place) in &block.sources {
        match read(&cx.path(name)) {
            Ok(text) => files.push((Box::from(&**name), text)),
            Err(reason) => place.config_error(ConfigError::File {
                path: format!("open {name}"),
                reason,
            }),
        }
    }
    checksums(block, &files);
    if cx.report.config_errors() != config_errors || files.is_empty() {
        return files;
    }
    // The sources are parsed together, because a local of one file is visible in the next.
    let joined = Joined::new(&files);
    if let Err((message, line)) = interpreter.parse("sources", &joined.text) {
        let found = line.and_then(|line| joined.place(line));
        let named = found.and_then(|(file, _)| block.sources.iter().find(|(name, _)| name == file));
        let place = named.or(block.sources.first());
        let line = found.map_or_else(String::new, |(file, line)| format!(" ({file}:L{line})"));
        if let Some((_, place)) = place {
            place.invalid(format!("not Lua: {message}{line}"));
        }
    }
    files
}

fn read(path: &Path) -> Result<String, String> {
    named_file::read_text(path, MAX_SOURCE_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::InvalidData => "not UTF-8".to_owned(),
        _ => error.to_string(),
    })
}

fn checksums(block: &Block<'_>, files: &[(Box<str>, String)]) {
    let Some(node) = block.block.get("md5") else {
        return;
    };
    for (name, wanted) in &block.md5 {
        let place = node.get(name).unwrap_or_else(|| node.clone());
        if !block.sources.iter().any(|(source, _)| source == name) {
            place.warn(ConfigError::invalid(format!(
                "{name:?} is not one of the sources, and is ignored"
            )));
            continue;
        }
        let Some((_, text)) = files.iter().find(|(file, _)| **file == **name) else {
            continue;
        };
        if block.live {
            continue;
        }
        let found = hex::encode(Md5::digest(text.as_bytes()));
        if !found.eq_ignore_ascii_case(wanted.trim()) {
            place.config_error_hint(
                ConfigError::invalid(format!("the MD5 of {name:?} is {found}, not {wanted:?}")),
                "if the change is wanted, write the new one",
            );
        }
    }
}

/// Whether code names the cookies of a request.
fn names_cookies(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    code.replace("set-cookie", "").contains("cookie")
}

/// Whether code may read a body: by its name, or through code that is loaded later.
fn may_read_body(code: &str) -> bool {
    code.contains("body") || LOADERS.iter().any(|word| calls(code, word))
}

/// Whether `word` occurs in `code` as a separate word and not as a method: `request.load()` loads no code.
fn calls(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        !before.is_some_and(|c| inside(c) || c == '.' || c == ':') && !after.is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_for_code_that_may_use_it() {
        for code in [
            "r:body()",
            "dofile('x.lua')",
            "local m = require 'm'",
            "load(f)()",
        ] {
            assert!(may_read_body(code), "{code}");
        }
        for code in [
            "request.load():headers('A', 'b')",
            "loaded = 1",
            "x.require(1)",
        ] {
            assert!(!may_read_body(code), "{code}");
        }
    }
}
