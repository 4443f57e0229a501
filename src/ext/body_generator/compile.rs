//! Compiles the blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::config::KEYS;
use super::generator::Generator;
use super::runtime::{MakeRequest, MakeResponse};
use crate::config::template::{Escape, Program};
use crate::config::{Block, ConfigError, Node};
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::named_file;
use crate::runtime::json::Value;

/// Larger files are not templates.
const MAX_BYTES: u64 = 16 << 20;
/// The parts of the data that come from clients and backends.
const FOREIGN: &[&str] = &["req_", "resp_"];

/// What a block has where it says nothing.
pub(in crate::ext) struct Defaults {
    pub(in crate::ext) content_type: &'static str,
    pub(in crate::ext) escape: Escape,
}

const PLAIN: Defaults = Defaults {
    content_type: "application/json",
    escape: Escape::Nothing,
};

pub(super) fn request_endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    match compile_generator(node, &PLAIN, site.pattern, cx) {
        Some(generator) => piped(MakeRequest { generator }),
        None => EndpointPart::Nothing,
    }
}

pub(super) fn request_backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(
        compile_generator(node, &PLAIN, site.pattern, cx)
            .map(|generator| MakeRequest { generator }),
    )
}

pub(super) fn response_endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    match compile_generator(node, &PLAIN, site.pattern, cx) {
        Some(generator) => piped(MakeResponse { generator }),
        None => EndpointPart::Nothing,
    }
}

pub(super) fn response_backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(
        compile_generator(node, &PLAIN, site.pattern, cx)
            .map(|generator| MakeResponse { generator }),
    )
}

fn piped(step: impl crate::runtime::pipe::PipeStep + 'static) -> EndpointPart {
    EndpointPart::Piped {
        steps: Vec::new(),
        pipes: vec![Box::new(step)],
    }
}

/// Compiles a block with the keys of [`KEYS`]. `place` is for the log.
pub(in crate::ext) fn compile_generator(
    node: &Node<'_>,
    defaults: &Defaults,
    place: &str,
    cx: &Compile<'_>,
) -> Option<Generator> {
    let block = node.block(KEYS)?;
    let (name, text) = source(&block, cx)?;
    let program = match Program::parse(&name, &text, defaults.escape) {
        Ok(program) => program,
        Err(error) => {
            let config_error = ConfigError::invalid(error.message);
            match error.hint {
                Some(hint) => block.node().config_error_hint(config_error, hint),
                None => block.node().config_error(config_error),
            }
            return None;
        }
    };
    let written = block.text("content_type").unwrap_or(defaults.content_type);
    let Ok(content_type) = HeaderValue::try_from(written) else {
        block
            .node()
            .invalid(format!("{written:?} is not a content type"));
        return None;
    };
    let debug = block.flag("debug");
    if debug && let Some(node) = block.get("debug") {
        node.warn(ConfigError::invalid("bodies of clients will be in the log"));
    }
    let generator = Generator {
        program,
        content_type,
        kind: Generator::kind_of(written),
        variables: variables(&block),
        debug: debug.then(|| place.into()),
    };
    warn_of_injection(&generator, defaults, &block);
    Some(generator)
}

/// Values are not escaped by a template.
fn warn_of_injection(generator: &Generator, defaults: &Defaults, block: &Block<'_>) {
    let is_escaped = defaults.escape != Escape::Nothing;
    if is_escaped || !generator.makes_json() {
        return;
    }
    if let Some(action) = generator.program.unescaped(FOREIGN) {
        block.node().warn_hint(
            ConfigError::invalid(format!(
                "{} is within quotes: a value that contains a quote changes the document",
                action.trim()
            )),
            "without the quotes: {{ … | toJson }}",
        );
    }
}

/// The name and the text of the template.
fn source(block: &Block<'_>, cx: &Compile<'_>) -> Option<(String, String)> {
    match (block.text("path"), block.text("template")) {
        (Some(path), None) => {
            let text = file(block, path, cx)?;
            Some((path.to_owned(), text))
        }
        (None, Some(coded)) => {
            let decoded = STANDARD.decode(coded.trim()).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            if text.is_none()
                && let Some(node) = block.get("template")
            {
                node.config_error_hint(
                    ConfigError::invalid("this is not base64"),
                    "put the template into a file, and name it in \"path\"",
                );
            }
            Some(("template".to_owned(), text?))
        }
        _ => {
            block.node().config_error_hint(
                ConfigError::invalid("either a \"path\" or a \"template\" is needed"),
                "\"path\": \"./body.tmpl\"",
            );
            None
        }
    }
}

fn file(block: &Block<'_>, path: &str, cx: &Compile<'_>) -> Option<String> {
    let found = cx.path(path);
    let text = named_file::read_text(&found, MAX_BYTES);
    let node = block.get("path")?;
    text.map_err(|reason| node.invalid(format!("{}: {reason}", found.display())))
        .ok()
}

fn variables(block: &Block<'_>) -> Value {
    let Some(node) = block.object("variables") else {
        return Value::Object(Default::default());
    };
    let text = node.value().to_json();
    serde_json::from_str(&text).map_or(Value::Null, |value| Value::literal(&value))
}
