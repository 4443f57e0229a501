//! The parts of a parsed template.

/// A range of byte offsets in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The place that messages name: for `.a.b` that of `.b`, as in Go.
    pub(super) at: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        Span {
            at: start,
            start,
            end,
        }
    }
}

/// One template: a file, or the body of a `define` or `block`.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: String,
    /// The index of the file that contains it.
    pub(super) file: usize,
    pub(super) nodes: Vec<Node>,
}

impl Tree {
    /// Whether it contains only white space. Such a body never replaces another one.
    pub(super) fn is_empty(&self) -> bool {
        let blank = |node: &Node| matches!(node, Node::Text(text, _) if text.trim().is_empty());
        self.nodes.iter().all(blank)
    }
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String, usize),
    Action(Pipeline),
    If(Box<Branch>),
    With(Box<Branch>),
    Range(Box<Branch>),
    Template(Call),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) nodes: Vec<Node>,
    pub(super) otherwise: Option<Vec<Node>>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) pipeline: Option<Pipeline>,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) span: Span,
    pub(super) assigns: bool,
    /// Names, including the `$`.
    pub(super) variables: Vec<String>,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) struct Command {
    /// The function or operand, followed by its arguments. Never empty.
    pub(super) words: Vec<Word>,
    pub(super) span: Span,
}

/// An operand with its place.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) operand: Operand,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Text(Box<[u8]>),
    Number(Number),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`: the name with its `$`, followed by the fields.
    Variable(String, Vec<String>),
    Function(String),
    Pipeline(Box<Pipeline>),
    /// `(pipeline).a` or `f.a`.
    Chain(Box<Word>, Vec<String>),
}

impl Operand {
    /// Whether a pipeline may continue with it.
    pub(super) fn is_executable(&self) -> bool {
        !matches!(
            self,
            Operand::Bool(_) | Operand::Dot | Operand::Nil | Operand::Number(_) | Operand::Text(_)
        )
    }
}

/// A literal number, in every type that it can be parsed as.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Number {
    pub(super) text: String,
    pub(super) int: Option<i64>,
    pub(super) float: Option<f64>,
    /// Written with a point or an exponent.
    pub(super) is_float: bool,
}
