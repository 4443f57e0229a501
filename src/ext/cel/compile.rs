//! Compiles the block. An expression that cannot be evaluated stops the start: KrakenD would start without it.

use std::sync::Arc;

use super::config::{Entry, entries};
use super::facts::{JWT, REQUEST, RESP_DATA, RESPONSE, variables};
use super::language::{self, Program, Type};
use super::runtime::{Checks, Rejecters, Stage};
use super::{ALIASES, NAMESPACE, absent_names, names_cookies};
use crate::config::{ConfigError, Node};
use crate::ext::auth_validator;
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::identity::Requirement;
use crate::runtime::clock::Clock;

/// When an expression is evaluated. As in KrakenD, this follows only from its text, and there may be several moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
    Token,
}

const MOMENTS: [(Moment, &str); 3] = [
    (Moment::Before, "req"),
    (Moment::After, "resp"),
    (Moment::Token, "JWT"),
];

impl Moment {
    fn of(text: &str) -> Vec<Moment> {
        let said = MOMENTS.iter().filter(|(_, word)| text.contains(word));
        said.map(|(moment, _)| *moment).collect()
    }

    /// Whether the variable at this index is known at this moment.
    fn knows(self, variable: usize) -> bool {
        let (request, response) = (REQUEST.contains(&variable), RESPONSE.contains(&variable));
        match self {
            Moment::Before => !response && variable != JWT,
            Moment::After => !request && variable != JWT,
            Moment::Token => !request && !response,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Moment::Before => "before the work, as \"req\" in it says",
            Moment::After => "after the work, as \"resp\" in it says",
            Moment::Token => "on the token, as \"JWT\" in it says",
        }
    }
}

/// A compiled expression.
struct Compiled {
    moments: Vec<Moment>,
    program: Program,
    text: Box<str>,
}

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let tokens = validated(site);
    let compiled = compiled(node, site, cx, |entry| {
        if !tokens {
            entry.node.config_error_hint(
                ConfigError::invalid("\"JWT\" is known only where tokens are validated"),
                "add \"auth/validator\" to this endpoint, or remove the expression",
            )
        }
    });
    let is_before = |one: &&Compiled| one.moments.contains(&Moment::Before);
    let mut requests = compiled.iter().filter(is_before);
    if requests.any(|one| names_cookies(&one.text)) {
        cx.browsers_send(
            "\"validation/cel\" decides by cookies, and browsers send cookies with it",
        );
    }
    EndpointPart::pipe(checks(
        &format!("[ENDPOINT: {}][CEL]", site.pattern),
        compiled,
    ))
}

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let compiled = compiled(node, site.endpoint, cx, |entry| {
        entry.node.config_error_hint(
            ConfigError::invalid("\"JWT\" is not known at a backend"),
            "move the expression to the endpoint's \"validation/cel\"",
        );
    });
    BackendPart::pipe(checks(
        &format!("[BACKEND: {}][CEL]", site.pattern),
        compiled,
    ))
}

/// What an endpoint's expressions require of tokens. `None` if nothing. The endpoint's validator calls this; errors
/// are reported when the block itself is compiled.
pub(in crate::ext) fn demand(site: &EndpointSite<'_>) -> Option<Arc<dyn Requirement>> {
    let node = neighbour(site, NAMESPACE, ALIASES)?;
    let programs: Box<[Program]> = entries(&node)
        .iter()
        .filter(|entry| Moment::of(entry.text).contains(&Moment::Token))
        .filter_map(|entry| language::compile(entry.text, &variables()).ok())
        .collect();
    if programs.is_empty() {
        return None;
    }
    let log = format!("[ENDPOINT: {}][CEL] Rejecter", site.pattern);
    Some(Arc::new(Rejecters {
        stage: Stage {
            log: log.into(),
            programs,
        },
        clock: Clock::system(),
    }))
}

/// Another block of the endpoint: the first one under any of its names.
fn neighbour<'a>(site: &EndpointSite<'a>, namespace: &str, aliases: &[&str]) -> Option<Node<'a>> {
    let members = site.extra.as_ref()?.members();
    members
        .into_iter()
        .find(|(name, _)| *name == namespace || aliases.contains(name))
        .map(|(_, node)| node)
}

fn validated(site: &EndpointSite<'_>) -> bool {
    let known = &auth_validator::ENDPOINT;
    neighbour(site, known.namespace, known.aliases).is_some()
}

/// Compiles the expressions of a block. `token` is called for those that need a token.
fn compiled(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &Compile<'_>,
    token: impl Fn(&Entry<'_>),
) -> Vec<Compiled> {
    let mut all = Vec::new();
    for entry in entries(node) {
        log::debug!("[CEL] Parsing expression: {}", language::shown(entry.text));
        let program = match language::compile(entry.text, &variables()) {
            Ok(program) => program,
            Err(flaw) => {
                let config_error = ConfigError::invalid(flaw.to_string());
                match flaw.hint {
                    Some(hint) => entry.node.config_error_hint(config_error, hint),
                    None => entry.node.config_error(config_error),
                }
                continue;
            }
        };
        let moments = Moment::of(entry.text);
        if program.names().contains(&JWT) {
            token(&entry);
        }
        doubts(&entry, &program, &moments);
        absent_names::missing(&entry.node, &program, site, cx);
        all.push(Compiled {
            moments,
            program,
            text: entry.text.into(),
        });
    }
    all
}

/// How to compare a claim with a part of the request: no moment knows both.
const AS_HEADER: &str = "an operation that needs it fails, unless || or && is decided without it. To compare a claim with \
                         the request, make it a header: \"propagate_claims\": [[\"sub\", \"X-User\"]], \"input_headers\": \
                         [\"X-User\"], and the expression req_headers['X-User'][0] == req_params.User";

/// Warns about expressions that are valid but probably not intended.
fn doubts(entry: &Entry<'_>, program: &Program, moments: &[Moment]) {
    let warn = |text: String, hint: &'static str| {
        entry.node.warn_hint(ConfigError::invalid(text), hint);
    };
    if !matches!(program.kind(), Type::Bool | Type::Dyn) {
        warn(
            format!(
                "the expression returns {}, and only true lets a request pass",
                program.kind()
            ),
            "compare it with something",
        );
    }
    if moments.is_empty() {
        warn(
            "the expression is never evaluated, as in KrakenD".to_owned(),
            "only one with \"req\", \"resp\" or \"JWT\" in its text is",
        );
    }
    for moment in moments {
        let unknown = program.names().iter().find(|name| !moment.knows(**name));
        if let Some(name) = unknown
            && let Some(variable) = variables().get(*name)
        {
            warn(
                format!(
                    "the expression is evaluated {}, and \"{}\" is not known then",
                    moment.words(),
                    variable.name
                ),
                if moments.contains(&Moment::Token) {
                    AS_HEADER
                } else {
                    "an operation that needs it fails, unless || or && is decided without it: write one expression \
                     for each moment"
                },
            );
        }
    }
    if program.takes_as_number(RESP_DATA) {
        warn(
            "numbers of \"resp_data\" are texts, as in KrakenD: this comparison is never true"
                .to_owned(),
            "int(resp_data.x) and double(resp_data.x) make them numbers",
        );
    }
}

/// The step, if there are expressions to evaluate around the work.
fn checks(prefix: &str, compiled: Vec<Compiled>) -> Option<Checks> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for one in compiled {
        let (pre, post) = (
            one.moments.contains(&Moment::Before),
            one.moments.contains(&Moment::After),
        );
        // An expression with both moments becomes two programs. Compiling it a second time is cheap.
        if pre
            && post
            && let Ok(again) = language::compile(&one.text, &variables())
        {
            before.push(again);
        }
        match (pre, post) {
            (_, true) => after.push(one.program),
            (true, false) => before.push(one.program),
            (false, false) => {}
        }
    }
    if before.is_empty() && after.is_empty() {
        return None;
    }
    log::debug!("{prefix} {} preEvaluator(s) loaded", before.len());
    log::debug!("{prefix} {} postEvaluator(s) loaded", after.len());
    let stage = |word: &str, programs: Vec<Program>| Stage {
        log: format!("{prefix}[{word}] Evaluator").into(),
        programs: programs.into(),
    };
    Some(Checks::new(
        stage("pre", before),
        stage("post", after),
        Clock::system(),
    ))
}
