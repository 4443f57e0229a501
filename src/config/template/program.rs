//! Templates that are parsed at start and rendered for requests.
//!
//! They have fewer functions than those of a configuration: none that reads the environment, files or names of hosts, and none
//! that computes keys. Their values come from clients, so their time, steps and sizes are bounded more tightly, and they
//! run on the stack of a worker.

use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budget, Limits};
use super::error::TemplateError;
use super::exec::Run;
use super::functions::{Allowed, Host};
use super::output::Output;
use super::parse;
use super::tree::{Branch, Command, Node, Operand, Pipeline, Tree, Word};
use super::value::{Entries, Value};
use super::{Source, associate};

/// Limits of one rendering.
const LIMITS: Limits = Limits {
    steps: 2_000_000,
    time: Duration::from_millis(100),
    made: 64 << 20,
    calls: 8,
};
/// Blocks and parentheses nested deeper are rejected: a worker has less stack than the thread for configurations.
const MAX_DEPTH: usize = 32;

/// How printed values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As they are.
    Nothing,
    /// `<`, `>`, `&` and quotes as references, unless the action ends in `| safe`.
    Xml,
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Program {
    source: Source,
    trees: Vec<Tree>,
    escape: Escape,
}

/// A value for a template.
#[derive(Debug, Clone)]
pub(crate) struct Datum(pub(super) Value);

impl Datum {
    pub(crate) fn null() -> Datum {
        Datum(Value::Nil)
    }

    pub(crate) fn bool(value: bool) -> Datum {
        Datum(Value::Bool(value))
    }

    pub(crate) fn integer(value: i64) -> Datum {
        Datum(Value::Int(value))
    }

    /// A number of JSON. Integers keep their digits as far as 64 bits allow.
    pub(crate) fn number(text: &str) -> Datum {
        match text.parse::<i64>() {
            Ok(value) => Datum(Value::Int(value)),
            Err(_) => Datum(Value::Float(text.parse().unwrap_or_default())),
        }
    }

    pub(crate) fn text(text: impl AsRef<[u8]>) -> Datum {
        Datum(Value::text(text))
    }

    pub(crate) fn list(items: impl IntoIterator<Item = Datum>) -> Datum {
        Datum(Value::list(items.into_iter().map(|item| item.0).collect()))
    }

    pub(crate) fn map<N: AsRef<[u8]>>(members: impl IntoIterator<Item = (N, Datum)>) -> Datum {
        let members = members.into_iter();
        let entries: Entries = members
            .map(|(name, value)| (name.as_ref().into(), value.0))
            .collect();
        Datum(Value::map(entries))
    }
}

/// Called now and then while a template is rendered.
pub(crate) trait Watch {
    /// # Errors
    /// The rendering must stop, for this reason.
    fn look(&self) -> Result<(), String>;

    /// Called before the rendering holds up to this many bytes, besides its data.
    ///
    /// # Errors
    /// There is no memory for them.
    fn hold(&self, _bytes: usize) -> Result<(), String> {
        Ok(())
    }
}

/// The host of a template for requests: it has no environment variables and no partials.
struct Nowhere<'w>(&'w dyn Watch);

impl Host for Nowhere<'_> {
    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn partial(&self, _: &str) -> Result<Option<Arc<str>>, String> {
        Ok(None)
    }

    fn zone(&self) -> Option<String> {
        None
    }

    fn hold(&self, bytes: usize) -> Result<(), String> {
        self.0.hold(bytes)
    }

    fn look(&self) -> Result<(), String> {
        self.0.look()
    }
}

impl Program {
    /// Parses a text.
    ///
    /// # Errors
    /// The first error, with its place.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        escape: Escape,
    ) -> Result<Program, Box<TemplateError>> {
        let source = Source {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let parsed = parse::parse(0, &source.name, &source.text, Allowed::Requests);
        let mut trees = Vec::new();
        for tree in parsed? {
            if depth(&tree.nodes) > MAX_DEPTH {
                let text = format!("blocks are nested too deeply (more than {MAX_DEPTH})");
                return Err(Box::new(TemplateError::internal(&text)));
            }
            associate(&mut trees, tree, &mut Vec::new());
        }
        Ok(Program {
            source,
            trees,
            escape,
        })
    }

    /// Renders the template with `data` as its dot.
    ///
    /// # Errors
    /// The text of the error, with its place in the template.
    pub(crate) fn render(&self, data: Datum, watch: &dyn Watch) -> Result<Vec<u8>, String> {
        let mut run = Run {
            sources: std::slice::from_ref(&self.source),
            trees: &self.trees,
            host: &Nowhere(watch),
            budget: Budget::of(LIMITS),
            output: Output::default(),
            warnings: Vec::new(),
            escape: self.escape,
        };
        match run.template(&self.source.name, data.0) {
            Ok(()) => Ok(run.output.bytes),
            Err(error) => Err(error.message),
        }
    }

    /// The first action that prints a part of `.NAME…` inside quotes without a function that escapes it, where NAME
    /// begins with one of `names`.
    pub(crate) fn unescaped(&self, names: &[&str]) -> Option<&str> {
        let mut quoted = false;
        let trees = self.trees.iter();
        let mut found = trees.filter_map(|tree| self.unescaped_in(&tree.nodes, names, &mut quoted));
        found.next()
    }

    fn unescaped_in(&self, nodes: &[Node], names: &[&str], quoted: &mut bool) -> Option<&str> {
        for node in nodes {
            let found = match node {
                Node::Text(text, _) => {
                    let plain = text.replace("\\\\", "").replace("\\\"", "");
                    *quoted ^= plain.matches('"').count() % 2 == 1;
                    None
                }
                Node::Action(pipeline) if *quoted && is_bare(pipeline, names) => {
                    self.source.text.get(pipeline.span.start..pipeline.span.end)
                }
                Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                    let first = self.unescaped_in(&branch.nodes, names, quoted);
                    let other = branch.otherwise.as_deref().unwrap_or_default();
                    first.or_else(|| self.unescaped_in(other, names, quoted))
                }
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Whether an action prints a field of `names` as it is.
fn is_bare(pipeline: &Pipeline, names: &[&str]) -> bool {
    let [Command { words, .. }] = &pipeline.commands[..] else {
        return false;
    };
    let [Word { operand, .. }] = &words[..] else {
        return false;
    };
    let (Operand::Field(path) | Operand::Variable(_, path)) = operand else {
        return false;
    };
    pipeline.variables.is_empty()
        && path
            .first()
            .is_some_and(|first| names.iter().any(|name| first.starts_with(name)))
}

/// How deep blocks and parentheses are nested.
fn depth(nodes: &[Node]) -> usize {
    let of = |node: &Node| match node {
        Node::Action(pipeline) => depth_of(pipeline),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            let Branch {
                pipeline,
                nodes,
                otherwise,
            } = &**branch;
            let inner = depth(nodes).max(depth(otherwise.as_deref().unwrap_or_default()));
            1 + inner.max(depth_of(pipeline))
        }
        Node::Template(call) => call.pipeline.as_ref().map_or(0, depth_of),
        Node::Text(..) | Node::Break | Node::Continue => 0,
    };
    nodes.iter().map(of).max().unwrap_or(0)
}

fn depth_of(pipeline: &Pipeline) -> usize {
    let words = pipeline.commands.iter().flat_map(|command| &command.words);
    words.map(depth_of_word).max().unwrap_or(0)
}

fn depth_of_word(word: &Word) -> usize {
    match &word.operand {
        Operand::Pipeline(inner) => 1 + depth_of(inner),
        Operand::Chain(inner, _) => 1 + depth_of_word(inner),
        _ => 0,
    }
}

/// Whether what a pipeline prints is not to be escaped.
pub(super) fn is_safe(pipeline: &Pipeline) -> bool {
    let last = pipeline
        .commands
        .last()
        .and_then(|command| command.words.first());
    last.is_some_and(|word| matches!(&word.operand, Operand::Function(name) if name == "safe"))
}

/// A text for the content or an attribute of XML.
pub(super) fn xml(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            // No XML document may contain these (XML 1.0 §2.2).
            0..=8 | 11 | 12 | 14..=31 => out.extend_from_slice("\u{fffd}".as_bytes()),
            byte => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unwatched;

    impl Watch for Unwatched {
        fn look(&self) -> Result<(), String> {
            Ok(())
        }
    }

    struct Stopped;

    impl Watch for Stopped {
        fn look(&self) -> Result<(), String> {
            Err("stopped".to_owned())
        }
    }

    fn data() -> Datum {
        Datum::map([
            ("n", Datum::number("9007199254740993")),
            ("f", Datum::number("1.5")),
            ("text", Datum::text("a<b>\"&'")),
            ("list", Datum::list([Datum::bool(true), Datum::null()])),
        ])
    }

    fn rendered(text: &str, escape: Escape) -> Result<String, String> {
        let program = Program::parse("t", text, escape).map_err(|error| error.message)?;
        let bytes = program.render(data(), &Unwatched)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn one_program_renders_many_times() {
        let text = "{{ .n }} {{ .f }} {{ .list | toJson }} {{ .gone }}";
        let program = Program::parse("t", text, Escape::Nothing).unwrap();
        for _ in 0..3 {
            let out = program.render(data(), &Unwatched).unwrap();
            assert_eq!(out, b"9007199254740993 1.5 [true,null] <no value>");
        }
    }

    #[test]
    fn printed_values_are_escaped_in_xml_unless_they_are_safe() {
        for (text, want) in [
            ("<a>{{ .text }}</a>", "<a>a&lt;b&gt;&#34;&amp;&#39;</a>"),
            ("{{ .text | safe }}", "a<b>\"&'"),
            ("{{ safe .text }}", "a<b>\"&'"),
            ("{{ $x := .text }}{{ $x }}", "a&lt;b&gt;&#34;&amp;&#39;"),
            ("{{ .text | upper }}", "A&lt;B&gt;&#34;&amp;&#39;"),
            (
                r#"{{ define "d" }}{{ . }}{{ end }}{{ template "d" "<" }}"#,
                "&lt;",
            ),
            (r#"{{ "\u0001\t" }}"#, "\u{fffd}\t"),
        ] {
            assert_eq!(rendered(text, Escape::Xml).as_deref(), Ok(want), "{text}");
        }
        let plain = rendered("{{ .text }}", Escape::Nothing);
        assert_eq!(plain.as_deref(), Ok("a<b>\"&'"));
    }

    #[test]
    fn the_environment_and_slow_functions_are_not_available() {
        for name in [
            "env",
            "expandenv",
            "getHostByName",
            "include",
            "genPrivateKey",
            "bcrypt",
            "htpasswd",
            "encryptAES",
            "decryptAES",
            "derivePassword",
        ] {
            let text = format!("{{{{ {name} \"a\" }}}}");
            let error = rendered(&text, Escape::Nothing).unwrap_err();
            assert!(error.contains("not defined"), "{name}: {error}");
        }
        // A template of a configuration does not know what only these have.
        let mut warnings = Vec::new();
        let source = Source {
            name: "t".into(),
            text: "{{ safe 1 }}".into(),
        };
        assert!(super::super::parse_all(&[source], &mut warnings).is_err());
    }

    #[test]
    fn a_rendering_is_bounded() {
        for (text, error) in [
            (
                "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}",
                "too",
            ),
            ("{{ repeat 99999999 \"a\" }}", "MiB"),
            (
                r#"{{ define "d" }}{{ template "d" . }}{{ end }}{{ template "d" . }}"#,
                "depth",
            ),
        ] {
            let found = rendered(text, Escape::Nothing).unwrap_err();
            assert!(found.contains(error), "{text}: {found}");
        }
        let nested = format!("{}{}", "{{ if true }}".repeat(33), "{{ end }}".repeat(33));
        assert!(
            rendered(&nested, Escape::Nothing)
                .unwrap_err()
                .contains("nested")
        );
        let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(33), ")".repeat(33));
        assert!(
            rendered(&parentheses, Escape::Nothing)
                .unwrap_err()
                .contains("nested")
        );
        let busy = Program::parse("t", "{{ range 100000 }}{{ end }}", Escape::Nothing).unwrap();
        assert!(
            busy.render(data(), &Stopped)
                .unwrap_err()
                .contains("stopped")
        );
    }

    #[test]
    fn slow_calls_end_in_time_although_they_are_few() {
        for slow in ["sha256sum $a", "regexMatch \"(a|b)*c\" $a", "$a | toJson"] {
            let text = format!(
                "{{{{ $a := repeat 2000000 \"a\" }}}}{{{{ range 900 }}}}{{{{ $x := {slow} }}}}{{{{ end }}}}"
            );
            let started = std::time::Instant::now();
            let error = rendered(&text, Escape::Nothing).unwrap_err();
            let took = started.elapsed();
            assert!(error.contains("too long"), "{slow}: {error}");
            assert!(took < Duration::from_secs(3), "{slow} took {took:?}");
        }
    }

    #[test]
    fn the_deepest_templates_fit_on_a_small_stack() {
        let block = |inner: &str| {
            format!(
                "{}{inner}{}",
                "{{ if true }}".repeat(30),
                "{{ end }}".repeat(30)
            )
        };
        let mut text = String::new();
        for n in 0..8 {
            let inner = format!("{{{{ template \"t{}\" . }}}}", n + 1);
            text.push_str(&format!(
                "{{{{ define \"t{n}\" }}}}{}{{{{ end }}}}",
                block(&inner)
            ));
        }
        text.push_str("{{ define \"t8\" }}end{{ end }}");
        text.push_str(&block("{{ template \"t1\" . }}"));
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        let out = thread.spawn(move || rendered(&text, Escape::Nothing));
        assert_eq!(out.unwrap().join().unwrap().as_deref(), Ok("end"));
    }

    #[test]
    fn fields_within_quotes_are_found() {
        for (text, found) in [
            (r#"{"a": "{{ .req_body.a }}"}"#, true),
            (r#"{"a": "{{ .req_body.a | js }}"}"#, false),
            (r#"{"a": {{ .req_body.a | toJson }}}"#, false),
            (r#"{"a": "x", "b": {{ .req_body.a }}}"#, false),
            (r#"{{ if .x }}"a\"{{ .resp_body.b }}"{{ end }}"#, true),
            (r#"{"a": "{{ .variables.a }}"}"#, false),
        ] {
            let program = Program::parse("t", text, Escape::Nothing).unwrap();
            assert_eq!(
                program.unescaped(&["req_", "resp_"]).is_some(),
                found,
                "{text}"
            );
        }
    }
}
