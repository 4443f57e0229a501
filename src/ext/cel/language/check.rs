//! Compiles a syntax tree to a program. Undeclared names and types that never match are found here, at start.

use std::collections::BTreeSet;
use std::fmt;

use super::overloads::{self, Unfit};
use super::policy;
use super::syntax::{Kind, Node};
use super::tree::{Expr, Function, Literal, Macro, MacroKind, Program, TypeName};
use super::types::Type;
use crate::config::re2;
use crate::config::suggest::nearest;

/// A name that an expression may use.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub name: &'static str,
    pub kind: Type,
}

/// The functions that an expression may use, besides those of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// None.
    Standard,
    /// Those of policies.
    Policy {
        /// Also those that look into the request by themselves, such as `hasHeader('X-A')`.
        macros: bool,
        places: Places,
    },
}

/// The indexes of the variables that macros of policies read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub headers: usize,
    pub query: usize,
    pub client: usize,
    pub geo: usize,
}

/// An error in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The character at which it begins, counted from 1.
    pub at: Option<usize>,
    pub text: String,
    pub hint: Option<String>,
}

impl Flaw {
    pub(super) fn new(text: impl Into<String>) -> Flaw {
        Flaw {
            at: None,
            text: text.into(),
            hint: None,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "character {at}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The maximum compiled size of a pattern, in bytes.
pub(super) const MAX_PATTERN: usize = 1 << 20;

/// Checks a whole expression.
///
/// # Errors
/// A name is not declared, or types do not match.
pub(super) fn program(
    text: &str,
    node: &Node,
    variables: &[Variable],
    dialect: Dialect,
) -> Result<Program, Flaw> {
    let mut checker = Checker {
        dialect,
        variables,
        locals: Vec::new(),
        names: BTreeSet::new(),
    };
    let (root, kind) = checker.node(node)?;
    Ok(Program {
        text: text.into(),
        root,
        kind,
        names: checker.names.into_iter().collect(),
    })
}

pub(super) struct Checker<'a> {
    dialect: Dialect,
    variables: &'a [Variable],
    /// The variables of the enclosing macros, outermost first.
    locals: Vec<(String, Type)>,
    names: BTreeSet<usize>,
}

pub(super) type Checked = (Expr, Type);

impl Checker<'_> {
    pub(super) fn node(&mut self, node: &Node) -> Result<Checked, Flaw> {
        self.kind(node).map_err(|flaw| Flaw {
            at: flaw.at.or(node.at),
            ..flaw
        })
    }

    fn kind(&mut self, node: &Node) -> Result<Checked, Flaw> {
        match &node.kind {
            Kind::Literal(literal) => Ok((Expr::Literal(literal.clone()), literal.kind())),
            Kind::Name(name) => self.name(name),
            Kind::Select { of, field, test } => self.select(of, field, *test),
            Kind::Call { name, on, args } => self.call(name, on.as_deref(), args),
            Kind::List(nodes) => {
                let (exprs, kinds): (Vec<Expr>, Vec<Type>) = self.nodes(nodes)?;
                Ok((Expr::List(exprs.into()), Type::list(Type::common(kinds))))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Macro {
                kind,
                over,
                variable,
                test,
                give,
            } => self.comprehension(*kind, over, variable, test.as_deref(), give.as_deref()),
        }
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(Vec<Expr>, Vec<Type>), Flaw> {
        nodes.iter().map(|node| self.node(node)).collect()
    }

    /// The variable at this index, if the moment of the expression has it.
    pub(super) fn variable(&mut self, index: usize) -> Option<Checked> {
        let known = self.variables.get(index);
        let kind = known.filter(|known| !known.name.is_empty())?.kind.clone();
        self.names.insert(index);
        Some((Expr::Variable(index), kind))
    }

    /// Whether a name is a variable, and no part of the name of a function.
    pub(super) fn is_variable(&self, name: &str) -> bool {
        self.locals.iter().any(|(known, _)| known == name)
            || self.variables.iter().any(|known| known.name == name)
    }

    fn name(&mut self, name: &str) -> Result<Checked, Flaw> {
        if let Some(index) = self.locals.iter().rposition(|(known, _)| known == name) {
            let kind = self.locals.get(index).map(|(_, kind)| kind.clone());
            return Ok((Expr::Local(index), kind.unwrap_or(Type::Dyn)));
        }
        let bare = name.strip_prefix('.').unwrap_or(name);
        if let Some(index) = self.variables.iter().position(|known| known.name == bare) {
            self.names.insert(index);
            let kind = self.variables.get(index).map(|known| known.kind.clone());
            return Ok((Expr::Variable(index), kind.unwrap_or(Type::Dyn)));
        }
        match TypeName::named(bare) {
            Some(kind) => Ok((Expr::Type(kind), Type::Meta)),
            None => {
                let names = self.variables.iter().map(|known| known.name);
                // Others have no name that an expression could write.
                Err(self.undeclared(bare, names.filter(|name| is_name(name))))
            }
        }
    }

    fn undeclared(&self, name: &str, known: impl Iterator<Item = &'static str>) -> Flaw {
        let meant = || nearest(name, known).map(|meant| format!("did you mean \"{meant}\"?"));
        let is_operator = name.eq_ignore_ascii_case("not");
        let operator = is_operator.then(|| "! means not".to_owned());
        Flaw {
            hint: operator.or_else(meant),
            ..Flaw::new(format!(
                "undeclared reference to '{name}' (in container '')"
            ))
        }
    }

    fn select(&mut self, of: &Node, field: &str, test: bool) -> Result<Checked, Flaw> {
        if !test && let Some(kind) = dotted(of, field).as_deref().and_then(TypeName::named) {
            return Ok((Expr::Type(kind), Type::Meta));
        }
        let (of, kind) = self.node(of)?;
        let inner = match kind {
            Type::Map(_, of) => *of,
            Type::Dyn => Type::Dyn,
            other => {
                return Err(Flaw::new(format!(
                    "type '{other}' does not support field selection"
                )));
            }
        };
        let (of, field) = (Box::new(of), field.into());
        Ok(if test {
            (Expr::Has { of, field }, Type::Bool)
        } else {
            (Expr::Select { of, field }, inner)
        })
    }

    fn map(&mut self, entries: &[(Node, Node)]) -> Result<Checked, Flaw> {
        let (mut exprs, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in entries {
            let (key, key_kind) = self.node(key)?;
            let (value, value_kind) = self.node(value)?;
            exprs.push((key, value));
            keys.push(key_kind);
            values.push(value_kind);
        }
        let kind = Type::Map(Box::new(Type::common(keys)), Box::new(Type::common(values)));
        Ok((Expr::Map(exprs.into()), kind))
    }

    fn call(&mut self, name: &str, on: Option<&Node>, args: &[Node]) -> Result<Checked, Flaw> {
        if let Dialect::Policy { macros, places } = self.dialect
            && let Some(found) = policy::call(self, name, on, args, macros.then_some(&places))
        {
            return found;
        }
        let (mut exprs, mut kinds) = (Vec::new(), Vec::new());
        for node in on.into_iter().chain(args) {
            let (expr, kind) = self.node(node)?;
            exprs.push(expr);
            kinds.push(kind);
        }
        if on.is_none()
            && let Some(found) = operator(name, &kinds)
        {
            let kind = found.ok_or_else(|| no_overload(name, false, &kinds))?;
            return Ok((operation(name, exprs)?, kind));
        }
        match overloads::resolve(name, on.is_some(), &kinds) {
            Ok((Function::Matches, kind)) => Ok((matching(exprs)?, kind)),
            Ok((function, kind)) => {
                let args = exprs.into();
                Ok((Expr::Call { function, args }, kind))
            }
            Err(Unfit::NoOverload) => Err(no_overload(name, on.is_some(), &kinds)),
            Err(Unfit::Undeclared) => match self.dialect {
                Dialect::Standard => Err(self.undeclared(name, overloads::names())),
                Dialect::Policy { macros, .. } => Err(Flaw {
                    hint: Some(format!("the functions are {}", policy::list(macros))),
                    ..self.undeclared(name, std::iter::empty())
                }),
            },
        }
    }

    fn comprehension(
        &mut self,
        kind: MacroKind,
        over: &Node,
        variable: &str,
        test: Option<&Node>,
        give: Option<&Node>,
    ) -> Result<Checked, Flaw> {
        let (over, over_kind) = self.node(over)?;
        let Some(element) = over_kind.elements() else {
            return Err(Flaw::new(format!(
                "expression of type '{over_kind}' cannot be range of a comprehension (must be list, map, or dynamic)"
            )));
        };
        let local = self.locals.len();
        self.locals.push((variable.to_owned(), element));
        let test = test.map(|test| self.condition(test)).transpose();
        let give = give.map(|give| self.node(give)).transpose();
        self.locals.pop();
        let (give, given) = give?.unzip();
        let gives = given.map_or(Type::Bool, Type::list);
        let inner = Macro {
            kind,
            over,
            local,
            test: test?,
            give,
        };
        Ok((Expr::Macro(Box::new(inner)), gives))
    }

    fn condition(&mut self, node: &Node) -> Result<Expr, Flaw> {
        let (expr, kind) = self.node(node)?;
        match kind {
            Type::Bool | Type::Dyn => Ok(expr),
            other => Err(Flaw {
                at: node.at,
                ..Flaw::new(format!("expected type 'bool' but found '{other}'"))
            }),
        }
    }
}

/// The result type of an operator whose argument types depend on each other. The inner `None` means that they do not
/// match.
fn operator(name: &str, kinds: &[Type]) -> Option<Option<Type>> {
    let bools = || {
        kinds
            .iter()
            .all(|kind| matches!(kind, Type::Bool | Type::Dyn))
    };
    Some(match (name, kinds) {
        ("_&&_" | "_||_", _) => bools().then_some(Type::Bool),
        ("_?_:_", [test, a, b]) => match test {
            Type::Bool | Type::Dyn => a.join(b),
            _ => None,
        },
        ("_==_" | "_!=_", [a, b]) => a.join(b).map(|_| Type::Bool),
        ("_+_", [a @ Type::List(_), b @ Type::List(_)]) => {
            Some(a.join(b).unwrap_or_else(|| Type::list(Type::Dyn)))
        }
        ("_+_", [a @ Type::List(_), Type::Dyn] | [Type::Dyn, a @ Type::List(_)]) => Some(a.clone()),
        ("@in", [item, whole]) => whole
            .elements()
            .and_then(|element| element.join(item))
            .map(|_| Type::Bool),
        ("_[_]", [of, index]) => indexed(of, index),
        _ => return None,
    })
}

fn indexed(of: &Type, index: &Type) -> Option<Type> {
    match (of, index) {
        (Type::Dyn, _) => Some(Type::Dyn),
        (Type::List(of), Type::Int | Type::Uint | Type::Double | Type::Dyn) => Some((**of).clone()),
        (Type::Map(key, of), index) => key.join(index).map(|_| (**of).clone()),
        _ => None,
    }
}

fn operation(name: &str, exprs: Vec<Expr>) -> Result<Expr, Flaw> {
    let wrong = || Flaw::new(format!("wrong number of arguments for '{name}'"));
    let function = match name {
        "_&&_" | "_||_" => return joined(name, exprs).ok_or_else(wrong),
        "_?_:_" => {
            let three = <[Expr; 3]>::try_from(exprs).map_err(|_| wrong())?;
            return Ok(Expr::If(Box::new(three)));
        }
        "_==_" => Function::Equal,
        "_!=_" => Function::NotEqual,
        "_+_" => Function::Add,
        "@in" => Function::In,
        _ => Function::Index,
    };
    let args = exprs.into();
    Ok(Expr::Call { function, args })
}

fn joined(name: &str, exprs: Vec<Expr>) -> Option<Expr> {
    exprs.into_iter().reduce(|a, b| match name {
        "_&&_" => Expr::And(Box::new([a, b])),
        _ => Expr::Or(Box::new([a, b])),
    })
}

/// `matches`. A constant pattern is compiled once.
fn matching(exprs: Vec<Expr>) -> Result<Expr, Flaw> {
    let [text, pattern] = <[Expr; 2]>::try_from(exprs)
        .map_err(|_| Flaw::new("wrong number of arguments for 'matches'"))?;
    let Expr::Literal(Literal::String(known)) = &pattern else {
        return Ok(Expr::Call {
            function: Function::Matches,
            args: Box::new([text, pattern]),
        });
    };
    let pattern = re2::sized(known, MAX_PATTERN).map_err(|error| Flaw {
        hint: Some("RE2 syntax: no look-around, no back-references".to_owned()),
        ..Flaw::new(format!("invalid matches argument: {error}"))
    })?;
    Ok(Expr::Matches {
        text: Box::new(text),
        pattern: Box::new(pattern),
    })
}

pub(super) fn no_overload(name: &str, member: bool, kinds: &[Type]) -> Flaw {
    let shown: Vec<String> = kinds.iter().map(Type::to_string).collect();
    let applied = match (member, shown.split_first()) {
        (true, Some((on, rest))) => format!("{on}.({})", rest.join(", ")),
        _ => format!("({})", shown.join(", ")),
    };
    Flaw::new(format!(
        "found no matching overload for '{name}' applied to '{applied}'"
    ))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The dotted name, such as `google.protobuf.Timestamp`, if the node is one.
fn dotted(of: &Node, field: &str) -> Option<String> {
    match &of.kind {
        Kind::Name(name) => Some(format!("{name}.{field}")),
        Kind::Select {
            of,
            field: inner,
            test: false,
        } => Some(format!("{}.{field}", dotted(of, inner)?)),
        _ => None,
    }
}

impl Literal {
    fn kind(&self) -> Type {
        match self {
            Literal::Null => Type::Null,
            Literal::Bool(_) => Type::Bool,
            Literal::Int(_) => Type::Int,
            Literal::Uint(_) => Type::Uint,
            Literal::Double(_) => Type::Double,
            Literal::String(_) => Type::String,
            Literal::Bytes(_) => Type::Bytes,
        }
    }
}
