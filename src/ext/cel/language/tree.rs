//! The parts of a program.

use regex::bytes::Regex;

use super::types::Type;

/// A checked expression, which can be evaluated any number of times.
#[derive(Debug)]
pub(crate) struct Program {
    /// As it is written.
    pub(super) text: Box<str>,
    pub(super) root: Expr,
    /// The type of the result, as far as it is known.
    pub(super) kind: Type,
    /// The variables that the expression uses, as indexes into the list that it was compiled with.
    pub(super) names: Box<[usize]>,
}

/// The members on the path from a variable to the part that is read. Empty means all of it.
pub(crate) type Path = Box<[Box<str>]>;

#[derive(Debug)]
pub(super) enum Expr {
    Literal(Literal),
    Variable(usize),
    /// The variable of a macro: the number of macros that enclose the one it belongs to.
    Local(usize),
    /// `int`, as a value.
    Type(TypeName),
    Select {
        of: Box<Expr>,
        field: Box<str>,
    },
    Has {
        of: Box<Expr>,
        field: Box<str>,
    },
    And(Box<[Expr; 2]>),
    Or(Box<[Expr; 2]>),
    If(Box<[Expr; 3]>),
    Call {
        function: Function,
        args: Box<[Expr]>,
    },
    /// `matches` with a constant pattern.
    Matches {
        text: Box<Expr>,
        pattern: Box<Regex>,
    },
    /// Whether a value is missing or has nothing in it.
    IsEmpty(Box<Expr>),
    List(Box<[Expr]>),
    Map(Box<[(Expr, Expr)]>),
    Macro(Box<Macro>),
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) kind: MacroKind,
    pub(super) over: Expr,
    /// The index of its variable.
    pub(super) local: usize,
    /// Only for a [`MacroKind::Map`] that filters.
    pub(super) test: Option<Expr>,
    /// Only for [`MacroKind::Map`].
    pub(super) give: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MacroKind {
    All,
    Exists,
    ExistsOne,
    /// `map` and `filter`
    Map,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
}

/// The types of values, which are values themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeName {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List,
    Map,
    Type,
}

/// The functions. Their types are in `overloads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Not,
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Index,
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
    ToInt,
    ToUint,
    ToDouble,
    ToString,
    ToBytes,
    ToBool,
    ToTimestamp,
    ToDuration,
    TypeOf,
    Dyn,
    Part(Part),
    /// A function of policies.
    Policy(Policy),
}

/// The functions of policies. Their types are in `policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Between,
    HasHeader,
    GetHeader,
    HasCookie,
    GetCookie,
    ContainsCookie,
    HasQuery,
    GetQuery,
    InCidr,
    CharAt,
    IndexOf,
    LastIndexOf,
    LowerAscii,
    UpperAscii,
    Replace,
    Split,
    Substring,
    Trim,
    Join,
    Reverse,
    EncodeBase64,
    DecodeBase64,
}

/// A part of a timestamp or of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Program {
    /// The expression as it is written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The type of the result, as far as it is known.
    pub(crate) fn kind(&self) -> &Type {
        &self.kind
    }

    /// The variables that the expression uses, as indexes into the list that it was compiled with.
    pub(crate) fn names(&self) -> &[usize] {
        &self.names
    }

    /// The parts of a variable that the expression reads.
    pub(crate) fn reads(&self, variable: usize) -> Vec<Path> {
        let mut paths = Vec::new();
        reads(&self.root, variable, &mut paths);
        paths
    }

    /// The members of a variable that the expression reads by name, each once: `v.a`, `v['a']`, `'a' in v`.
    pub(crate) fn members(&self, variable: usize) -> Vec<String> {
        let mut names = Vec::new();
        members(&self.root, variable, &mut names);
        names.sort();
        names.dedup();
        names
    }

    /// Whether a part of `variable` is somewhere compared or computed with a number without a conversion.
    pub(crate) fn takes_as_number(&self, variable: usize) -> bool {
        takes_as_number(&self.root, variable)
    }
}

impl Expr {
    fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Literal(_) | Expr::Variable(_) | Expr::Local(_) | Expr::Type(_) => Vec::new(),
            Expr::Select { of, .. } | Expr::Has { of, .. } => vec![of],
            Expr::Matches { text, .. } => vec![text],
            Expr::IsEmpty(of) => vec![of],
            Expr::And(both) | Expr::Or(both) => both.iter().collect(),
            Expr::If(three) => three.iter().collect(),
            Expr::Call { args, .. } | Expr::List(args) => args.iter().collect(),
            Expr::Map(entries) => entries
                .iter()
                .flat_map(|(key, value)| [key, value])
                .collect(),
            Expr::Macro(inner) => std::iter::once(&inner.over)
                .chain(&inner.test)
                .chain(&inner.give)
                .collect(),
        }
    }

    /// The variable and the members, if the expression is a plain path.
    fn path(&self) -> Option<(usize, Vec<&str>)> {
        let (of, member) = match self {
            Expr::Variable(variable) => return Some((*variable, Vec::new())),
            Expr::Select { of, field } | Expr::Has { of, field } => (&**of, &**field),
            Expr::Call {
                function: Function::Index,
                args,
            } => match &**args {
                [of, Expr::Literal(Literal::String(member))] => (of, &**member),
                _ => return None,
            },
            _ => return None,
        };
        let (variable, mut members) = of.path()?;
        members.push(member);
        Some((variable, members))
    }
}

fn reads(expr: &Expr, variable: usize, paths: &mut Vec<Path>) {
    match expr.path() {
        Some((found, _)) if found != variable => {}
        Some((_, members)) => paths.push(members.into_iter().map(Box::from).collect()),
        None => {
            for child in expr.children() {
                reads(child, variable, paths);
            }
        }
    }
}

fn members(expr: &Expr, variable: usize, names: &mut Vec<String>) {
    if let Some((found, path)) = expr.path() {
        if let (true, Some(first)) = (found == variable, path.first()) {
            names.push((*first).to_owned());
        }
        return;
    }
    if let Expr::Call {
        function: Function::In,
        args,
    } = expr
        && let [Expr::Literal(Literal::String(name)), Expr::Variable(found)] = &**args
        && *found == variable
    {
        names.push(name.to_string());
    }
    names.extend(asked_for(expr, variable));
    for child in expr.children() {
        members(child, variable, names);
    }
}

/// The member that a function of policies reads: `hasHeader('X-User')`, `getCookie('session')`.
fn asked_for(expr: &Expr, variable: usize) -> Option<String> {
    let Expr::Call {
        function: Function::Policy(function),
        args,
    } = expr
    else {
        return None;
    };
    let (Expr::Variable(found), Expr::Literal(Literal::String(name))) =
        (args.first()?, args.get(1)?)
    else {
        return None;
    };
    if *found != variable {
        return None;
    }
    match function {
        Policy::HasHeader | Policy::GetHeader => Some(crate::ext::cel::usual(name)),
        Policy::HasQuery | Policy::GetQuery => Some(name.to_string()),
        Policy::HasCookie | Policy::GetCookie | Policy::ContainsCookie => Some("Cookie".to_owned()),
        _ => None,
    }
}

fn takes_as_number(expr: &Expr, variable: usize) -> bool {
    if let Expr::Call { function, args } = expr
        && is_arithmetic(*function)
    {
        let comes = |arg: &Expr| matches!(arg.path(), Some((found, _)) if found == variable);
        let number = |arg: &Expr| {
            matches!(
                arg,
                Expr::Literal(Literal::Int(_) | Literal::Uint(_) | Literal::Double(_))
            )
        };
        if args.iter().any(comes) && args.iter().any(number) {
            return true;
        }
    }
    expr.children()
        .into_iter()
        .any(|child| takes_as_number(child, variable))
}

fn is_arithmetic(function: Function) -> bool {
    matches!(
        function,
        Function::Add
            | Function::Subtract
            | Function::Multiply
            | Function::Divide
            | Function::Modulo
            | Function::Equal
            | Function::NotEqual
            | Function::Less
            | Function::LessEqual
            | Function::Greater
            | Function::GreaterEqual
    )
}
