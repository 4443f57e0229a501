//! Builds trees from tokens: the grammar of Go's `text/template`, with its error texts.

mod pipeline;

use super::error::TemplateError;
use super::functions::{self, Allowed};
use super::lexer::{Kind, Lexer, Token};
use super::literal;
use super::tree::{Branch, Call, Command, Node, Operand, Pipeline, Span, Tree, Word};

/// Blocks and parentheses nested deeper are rejected, so that the parser cannot exhaust its stack.
const MAX_DEPTH: usize = 500;

/// Parses one file into the template with its name and those that it defines. They may use the `allowed` functions.
///
/// # Errors
/// The first syntax error, with its line.
pub(super) fn parse(
    file: usize,
    name: &str,
    text: &str,
    allowed: Allowed,
) -> Result<Vec<Tree>, Box<TemplateError>> {
    let mut parser = Parser {
        file,
        text,
        lexer: Lexer::new(text),
        ahead: Vec::new(),
        last: None,
        action_line: 0,
        name,
        variables: vec!["$".to_owned()],
        ranges: 0,
        depth: 0,
        allowed,
        trees: Vec::new(),
    };
    parser.file()?;
    Ok(parser.trees)
}

struct Parser<'t> {
    file: usize,
    name: &'t str,
    text: &'t str,
    lexer: Lexer<'t>,
    /// Tokens that were put back. The last one is read next.
    ahead: Vec<Token>,
    /// The token that was read last, whose place is named in errors.
    last: Option<Token>,
    action_line: u32,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    allowed: Allowed,
    trees: Vec<Tree>,
}

type Parsed<T> = Result<T, Box<TemplateError>>;

/// What ended a list of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    End,
    Else,
}

impl Stop {
    fn shown(self) -> &'static str {
        match self {
            Stop::End => "{{end}}",
            Stop::Else => "{{else}}",
        }
    }
}

enum Step {
    Node(Node),
    Stop(Stop),
}

impl Parser<'_> {
    fn next(&mut self) -> Token {
        let token = self.ahead.pop().unwrap_or_else(|| self.lexer.next());
        self.last = Some(token.clone());
        token
    }

    fn next_word(&mut self) -> Token {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn back(&mut self, token: Token) {
        self.ahead.push(token);
    }

    fn peek(&mut self) -> Token {
        let token = self.next();
        self.back(token.clone());
        token
    }

    fn peek_word(&mut self) -> Token {
        let token = self.next_word();
        self.back(token.clone());
        token
    }

    fn error<T>(&self, text: impl Into<String>) -> Parsed<T> {
        let (start, line) = self
            .last
            .as_ref()
            .map_or((0, 1), |token| (token.start, token.line));
        Err(Box::new(TemplateError::parse(
            self.file,
            self.name,
            self.text,
            start,
            line,
            text.into(),
        )))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Parsed<T> {
        if token.kind != Kind::Error {
            return self.error(format!("unexpected {} in {context}", token.shown()));
        }
        let text = token.shown();
        if self.action_line == 0 || self.action_line == token.line {
            return self.error(text);
        }
        let extra = if text.ends_with(" action") {
            ""
        } else {
            " in action"
        };
        self.error(format!(
            "{text}{extra} started at {}:{}",
            self.name, self.action_line
        ))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.next_word();
        if token.kind == kind {
            return Ok(token);
        }
        self.unexpected(&token, context)
    }

    fn file(&mut self) -> Parsed<()> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::Eof {
            if self.peek().kind == Kind::LeftDelimiter {
                let delimiter = self.next();
                let word = self.next_word();
                if word.kind == Kind::Define {
                    self.definition()?;
                    continue;
                }
                self.back(word);
                self.back(delimiter);
            }
            match self.text_or_action()? {
                Step::Node(node) => nodes.push(node),
                Step::Stop(stop) => return self.error(format!("unexpected {}", stop.shown())),
            }
        }
        let name = self.name.to_owned();
        self.add(name, nodes)
    }

    /// Adds a tree. If the name is taken and one of the two bodies is empty, the other one is kept.
    fn add(&mut self, name: String, nodes: Vec<Node>) -> Parsed<()> {
        let tree = Tree {
            name,
            file: self.file,
            nodes,
        };
        match self.trees.iter().position(|other| other.name == tree.name) {
            None => self.trees.push(tree),
            Some(at) if self.trees[at].is_empty() => self.trees[at] = tree,
            Some(_) if tree.is_empty() => {}
            Some(_) => {
                let name = super::format::quoted(tree.name.as_bytes());
                return self.error(format!("template: multiple definition of template {name}"));
            }
        }
        Ok(())
    }

    fn definition(&mut self) -> Parsed<()> {
        let context = "define clause";
        let token = self.next_word();
        let name = self.template_name(&token, context)?;
        self.expect(Kind::RightDelimiter, context)?;
        let nodes = self.body_of(context)?;
        self.add(name, nodes)
    }

    /// The body of a `define` or `block`, with its own variables.
    fn body_of(&mut self, context: &str) -> Parsed<Vec<Node>> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (nodes, stop) = self.list()?;
        self.variables = outer;
        self.ranges = ranges;
        match stop {
            Stop::End => Ok(nodes),
            Stop::Else => self.error(format!("unexpected {} in {context}", stop.shown())),
        }
    }

    fn template_name(&mut self, token: &Token, context: &str) -> Parsed<String> {
        match token.kind {
            Kind::String | Kind::RawString => {
                let name = self.unquoted(token)?;
                Ok(String::from_utf8_lossy(&name).into_owned())
            }
            _ => self.unexpected(token, context),
        }
    }

    fn unquoted(&self, token: &Token) -> Parsed<Box<[u8]>> {
        match literal::text(&token.text) {
            Some(bytes) => Ok(bytes.into()),
            None => self.error("invalid syntax"),
        }
    }

    fn list(&mut self) -> Parsed<(Vec<Node>, Stop)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(format!(
                "blocks are nested too deeply (more than {MAX_DEPTH})"
            ));
        }
        let mut nodes = Vec::new();
        while self.peek_word().kind != Kind::Eof {
            match self.text_or_action()? {
                Step::Node(node) => nodes.push(node),
                Step::Stop(stop) => {
                    self.depth -= 1;
                    return Ok((nodes, stop));
                }
            }
        }
        self.next_word();
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Parsed<Step> {
        let token = self.next_word();
        match token.kind {
            Kind::Text => Ok(Step::Node(Node::Text(token.text, token.start))),
            Kind::LeftDelimiter => {
                self.action_line = token.line;
                let step = self.action();
                self.action_line = 0;
                step
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Step> {
        let token = self.next_word();
        let node = match token.kind {
            Kind::Block => self.block(&token)?,
            Kind::Break => self.leave(Node::Break, "{{break}}")?,
            Kind::Continue => self.leave(Node::Continue, "{{continue}}")?,
            Kind::Else => return self.otherwise(),
            Kind::End => {
                self.expect(Kind::RightDelimiter, "end")?;
                return Ok(Step::Stop(Stop::End));
            }
            Kind::If => Node::If(self.branch("if")?),
            Kind::Range => Node::Range(self.branch("range")?),
            Kind::Template => self.template(&token)?,
            Kind::With => Node::With(self.branch("with")?),
            _ => {
                self.back(token);
                Node::Action(self.pipeline("command", Kind::RightDelimiter)?)
            }
        };
        Ok(Step::Node(node))
    }

    fn leave(&mut self, node: Node, shown: &str) -> Parsed<Node> {
        let token = self.next_word();
        if token.kind != Kind::RightDelimiter {
            return self.unexpected(&token, shown);
        }
        if self.ranges == 0 {
            return self.error(format!("{shown} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn otherwise(&mut self) -> Parsed<Step> {
        // `else if` and `else with` are parsed as `else`, followed by a block whose keyword comes next.
        if !matches!(self.peek_word().kind, Kind::If | Kind::With) {
            self.expect(Kind::RightDelimiter, "else")?;
        }
        Ok(Step::Stop(Stop::Else))
    }

    fn branch(&mut self, context: &str) -> Parsed<Box<Branch>> {
        let scope = self.variables.len();
        let pipeline = self.pipeline(context, Kind::RightDelimiter)?;
        let ranges = usize::from(context == "range");
        self.ranges += ranges;
        let (nodes, stop) = self.list()?;
        self.ranges -= ranges;
        let otherwise = match stop {
            Stop::End => None,
            Stop::Else => Some(self.else_part(context)?),
        };
        self.variables.truncate(scope);
        Ok(Box::new(Branch {
            pipeline,
            nodes,
            otherwise,
        }))
    }

    fn else_part(&mut self, context: &str) -> Parsed<Vec<Node>> {
        let keyword = self.peek().kind;
        let chained = matches!((context, keyword), ("if", Kind::If) | ("with", Kind::With));
        if !chained {
            let (nodes, stop) = self.list()?;
            if stop == Stop::End {
                return Ok(nodes);
            }
            return self.error(format!("expected end; found {}", stop.shown()));
        }
        self.next();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(format!(
                "blocks are nested too deeply (more than {MAX_DEPTH})"
            ));
        }
        // A single `end` closes both.
        let branch = self.branch(context)?;
        self.depth -= 1;
        Ok(vec![if context == "if" {
            Node::If(branch)
        } else {
            Node::With(branch)
        }])
    }

    fn block(&mut self, keyword: &Token) -> Parsed<Node> {
        let context = "block clause";
        let token = self.next_word();
        let name = self.template_name(&token, context)?;
        let pipeline = self.pipeline(context, Kind::RightDelimiter)?;
        let nodes = self.body_of(context)?;
        self.add(name.clone(), nodes)?;
        let span = Span::new(token.start, token.end.max(keyword.end));
        Ok(Node::Template(Call {
            name,
            span,
            pipeline: Some(pipeline),
        }))
    }

    fn template(&mut self, keyword: &Token) -> Parsed<Node> {
        let context = "template clause";
        let token = self.next_word();
        let name = self.template_name(&token, context)?;
        let next = self.next_word();
        let pipeline = if next.kind == Kind::RightDelimiter {
            None
        } else {
            self.back(next);
            Some(self.pipeline(context, Kind::RightDelimiter)?)
        };
        let span = Span::new(keyword.start, token.end);
        Ok(Node::Template(Call {
            name,
            span,
            pipeline,
        }))
    }
}
