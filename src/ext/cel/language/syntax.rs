//! Parses text to a syntax tree. This is the only module that uses the parser crate.
//!
//! The parser runs only at start, on its own thread with a large stack: a panic or a deeply nested tree becomes a
//! configuration error.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo,
};
use cel::parser::Parser;

use super::check::Flaw;
use super::tree::{Literal, MacroKind};

/// The maximum length of an expression in bytes.
const MAX_TEXT: usize = 16 * 1024;

/// The maximum nesting of an expression, which also limits the stack that a request uses.
pub(super) const MAX_DEPTH: usize = 96;

/// The stack size of the parser. Only pages that are used take memory.
const STACK: usize = 64 << 20;

/// A node, and the character at which it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Option<usize>,
    pub(super) kind: Kind,
}

/// The kind of a node. Macros are resolved.
#[derive(Debug)]
pub(super) enum Kind {
    Literal(Literal),
    Name(String),
    Select {
        of: Box<Node>,
        field: String,
        /// `has(of.field)`
        test: bool,
    },
    Call {
        name: String,
        on: Option<Box<Node>>,
        args: Vec<Node>,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Macro {
        kind: MacroKind,
        over: Box<Node>,
        variable: String,
        test: Option<Box<Node>>,
        give: Option<Box<Node>>,
    },
}

/// Parses `text`.
///
/// # Errors
/// It is not an expression, or it is too long or too deeply nested.
pub(super) fn parse(text: &str) -> Result<Node, Flaw> {
    if text.len() > MAX_TEXT {
        return Err(Flaw::new(format!("longer than {MAX_TEXT} bytes")));
    }
    let owned = text.to_owned();
    let parser = std::thread::Builder::new()
        .name("cel parser".to_owned())
        .stack_size(STACK)
        .spawn(move || read(&owned))
        .map_err(|error| Flaw::new(format!("no thread to parse on: {error}")))?;
    parser
        .join()
        .unwrap_or_else(|_| Err(Flaw::new("Syntax error: the parser gave up")))
}

fn read(text: &str) -> Result<Node, Flaw> {
    let (expr, source) =
        Parser::new()
            .parse_with_source_info(text)
            .map_err(|errors| match errors.errors.first() {
                Some(first) => Flaw {
                    at: usize::try_from(first.pos.1)
                        .ok()
                        .filter(|_| first.pos.0 == 1),
                    text: without_strings(&first.msg),
                    hint: slip(text).map(str::to_owned),
                },
                None => Flaw::new("Syntax error"),
            })?;
    Reader { source }.node(expr, 0)
}

/// A message of the parser without the strings that it quotes: they may be credentials.
fn without_strings(message: &str) -> String {
    let start = ["'\"", "''"].iter().filter_map(|open| message.find(open));
    let Some((before, rest)) = start
        .min()
        .and_then(|start| message.split_at_checked(start))
    else {
        return message.to_owned();
    };
    let end = ["\"'", "''"].iter().filter_map(|close| rest.rfind(close));
    // A string that does not end has no such end either.
    let after = end
        .max()
        .filter(|end| *end > 1)
        .and_then(|end| rest.get(end + 2..));
    format!("{before}a string{}", after.unwrap_or_default())
}

/// The correct form of operators that other languages have.
fn slip(text: &str) -> Option<&'static str> {
    let plain = outside_quotes(text);
    let words = || plain.split(|c: char| !c.is_alphanumeric() && c != '_');
    let has_word = |word: &str| words().any(|found| found.eq_ignore_ascii_case(word));
    let alone = |sign: char, around: &str| {
        let chars: Vec<char> = plain.chars().collect();
        let at = |index: Option<usize>| index.and_then(|index| chars.get(index)).copied();
        let is_part = |found: Option<char>| found.is_some_and(|found| around.contains(found));
        (0..chars.len()).any(|index| {
            chars[index] == sign
                && !is_part(at(index.checked_sub(1)))
                && !is_part(at(Some(index + 1)))
        })
    };
    if alone('=', "=!<>") {
        Some("== compares two values")
    } else if plain.contains("===") || plain.contains("!==") {
        Some("== and != compare two values")
    } else if alone('&', "&") || has_word("and") {
        Some("&& means and")
    } else if alone('|', "|") || has_word("or") {
        Some("|| means or")
    } else if has_word("not") {
        Some("! means not")
    } else if plain.contains("<>") {
        Some("!= compares two values")
    } else {
        None
    }
}

/// The expression for the log. Its strings may be credentials, except for names in brackets: `headers["X"] == "***"`.
pub(crate) fn shown(text: &str) -> String {
    with_strings(text, |out, string| {
        if out.ends_with('[') {
            out.push_str(string);
            return;
        }
        let quote = &string[..1];
        out.extend([quote, "***"]);
        if string.len() > 1 && string.ends_with(quote) {
            out.push_str(quote);
        }
    })
}

/// The expression without its strings.
fn outside_quotes(text: &str) -> String {
    with_strings(text, |_, _| ())
}

/// The expression, where `write` is called for each string, with its quotes. The last one may not end.
fn with_strings(text: &str, write: impl Fn(&mut String, &str)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(['\'', '"']) {
        let (before, string) = rest.split_at(start);
        let (quote, inner) = string.split_at(1);
        let end = inner.find(quote).map_or(string.len(), |end| end + 2);
        let (string, after) = string.split_at(end);
        out.push_str(before);
        write(&mut out, string);
        rest = after;
    }
    out.push_str(rest);
    out
}

struct Reader {
    source: SourceInfo,
}

impl Reader {
    fn node(&self, expr: IdedExpr, depth: usize) -> Result<Node, Flaw> {
        let at = self
            .source
            .offset_for(expr.id)
            .map(|(start, _)| start as usize + 1);
        if depth >= MAX_DEPTH {
            return Err(Flaw {
                at,
                text: format!("nested deeper than {MAX_DEPTH}"),
                hint: Some("split the expression into several entries".to_owned()),
            });
        }
        let kind = self.kind(expr.expr, depth + 1).map_err(|flaw| Flaw {
            at: flaw.at.or(at),
            ..flaw
        })?;
        Ok(Node { at, kind })
    }

    fn kind(&self, expr: Expr, depth: usize) -> Result<Kind, Flaw> {
        Ok(match expr {
            Expr::Literal(literal) => Kind::Literal(self::literal(literal)),
            Expr::Ident(name) => Kind::Name(name),
            Expr::Select(select) => Kind::Select {
                of: self.boxed(*select.operand, depth)?,
                field: select.field,
                test: select.test,
            },
            Expr::Call(call) => self.call(call, depth)?,
            Expr::List(list) => Kind::List(self.nodes(list.elements, depth)?),
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in map.entries {
                    let EntryExpr::MapEntry(entry) = entry.expr else {
                        return Err(Flaw::new("a map has keys and values"));
                    };
                    let key = self.node(entry.key, depth)?;
                    entries.push((key, self.node(entry.value, depth)?));
                }
                Kind::Map(entries)
            }
            Expr::Comprehension(macro_call) => self.comprehension(*macro_call, depth)?,
            Expr::Struct(made) => {
                return Err(Flaw::new(format!(
                    "undeclared reference to '{}' (in container '')",
                    made.type_name
                )));
            }
            Expr::Unspecified => return Err(Flaw::new("Syntax error")),
        })
    }

    fn call(&self, call: CallExpr, depth: usize) -> Result<Kind, Flaw> {
        Ok(Kind::Call {
            name: call.func_name,
            on: call
                .target
                .map(|target| self.boxed(*target, depth))
                .transpose()?,
            args: self.nodes(call.args, depth)?,
        })
    }

    fn nodes(&self, exprs: Vec<IdedExpr>, depth: usize) -> Result<Vec<Node>, Flaw> {
        exprs
            .into_iter()
            .map(|expr| self.node(expr, depth))
            .collect()
    }

    fn boxed(&self, expr: IdedExpr, depth: usize) -> Result<Box<Node>, Flaw> {
        self.node(expr, depth).map(Box::new)
    }

    /// The macro from which this loop was expanded.
    fn comprehension(&self, written: ComprehensionExpr, depth: usize) -> Result<Kind, Flaw> {
        let Some((kind, test, give)) = macro_of(written.accu_init.expr, written.loop_step.expr)
        else {
            return Err(Flaw::new("unsupported macro"));
        };
        let boxed = |expr: Option<IdedExpr>| expr.map(|expr| self.boxed(expr, depth)).transpose();
        Ok(Kind::Macro {
            kind,
            over: self.boxed(written.iter_range, depth)?,
            variable: written.iter_var,
            test: boxed(test)?,
            give: boxed(give)?,
        })
    }
}

type Written = (MacroKind, Option<IdedExpr>, Option<IdedExpr>);

/// The macro whose expansion has this initial value and this step.
fn macro_of(init: Expr, step: Expr) -> Option<Written> {
    let Expr::Call(CallExpr {
        func_name, args, ..
    }) = step
    else {
        return None;
    };
    let mut args = args.into_iter();
    match (init, func_name.as_str()) {
        (Expr::Literal(LiteralValue::Boolean(all)), "_&&_") if *all => {
            Some((MacroKind::All, Some(args.nth(1)?), None))
        }
        (Expr::Literal(LiteralValue::Boolean(all)), "_||_") if !*all => {
            Some((MacroKind::Exists, Some(args.nth(1)?), None))
        }
        (Expr::Literal(LiteralValue::Int(_)), "_?_:_") => {
            Some((MacroKind::ExistsOne, Some(args.next()?), None))
        }
        (Expr::List(_), "_+_") => Some((MacroKind::Map, None, Some(only(args.nth(1)?)?))),
        (Expr::List(_), "_?_:_") => {
            let test = args.next()?;
            let Expr::Call(append) = args.next()?.expr else {
                return None;
            };
            let give = only(append.args.into_iter().nth(1)?)?;
            Some((MacroKind::Map, Some(test), Some(give)))
        }
        _ => None,
    }
}

/// The only element of a list.
fn only(expr: IdedExpr) -> Option<IdedExpr> {
    match expr.expr {
        Expr::List(list) => list.elements.into_iter().next(),
        _ => None,
    }
}

fn literal(literal: LiteralValue) -> Literal {
    match literal {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(yes) => Literal::Bool(*yes),
        LiteralValue::Int(number) => Literal::Int(*number),
        LiteralValue::UInt(number) => Literal::Uint(*number),
        LiteralValue::Double(number) => Literal::Double(*number),
        LiteralValue::String(text) => Literal::String(text.inner().into()),
        LiteralValue::Bytes(bytes) => Literal::Bytes(bytes.inner().into()),
    }
}
