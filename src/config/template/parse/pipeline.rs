//! Pipelines, commands and operands.

use super::*;
use crate::config::template::format;

impl Parser<'_> {
    pub(super) fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipeline> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(format!(
                "parentheses are nested too deeply (more than {MAX_DEPTH})"
            ));
        }
        let start = self.peek_word().start;
        let mut pipeline = Pipeline {
            span: Span::new(start, start),
            assigns: false,
            variables: Vec::new(),
            commands: Vec::new(),
        };
        self.declarations(&mut pipeline, context)?;
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => {
                    self.check(&pipeline, context)?;
                    self.depth -= 1;
                    return Ok(pipeline);
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.back(token);
                    let command = self.command()?;
                    pipeline.span.end = command.span.end;
                    pipeline.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    /// `$x :=`, `$x =`, `$i, $e :=` before a pipeline.
    fn declarations(&mut self, pipeline: &mut Pipeline, context: &str) -> Parsed<()> {
        loop {
            let variable = self.next_word();
            if variable.kind != Kind::Variable {
                self.back(variable);
                return Ok(());
            }
            let behind = self.next();
            let next = if behind.kind == Kind::Space {
                self.next_word()
            } else {
                behind.clone()
            };
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipeline.assigns = next.kind == Kind::Assign;
                    self.variables.push(variable.text.clone());
                    pipeline.variables.push(variable.text);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.variables.push(variable.text.clone());
                    pipeline.variables.push(variable.text);
                    if context != "range" || pipeline.variables.len() > 1 {
                        return self.error(format!("too many declarations in {context}"));
                    }
                    let follows = self.peek_word().kind;
                    if !matches!(
                        follows,
                        Kind::Variable | Kind::RightDelimiter | Kind::RightParen
                    ) {
                        return self.error("range can only initialize variables");
                    }
                }
                _ => {
                    if behind.kind == Kind::Space {
                        self.back(next);
                    }
                    self.back(behind);
                    self.back(variable);
                    return Ok(());
                }
            }
        }
    }

    fn check(&self, pipeline: &Pipeline, context: &str) -> Parsed<()> {
        if pipeline.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        let rest = pipeline.commands.iter().enumerate().skip(1);
        for (index, command) in rest {
            if !command.words[0].operand.is_executable() {
                let stage = index + 1;
                return self.error(format!("non executable command in pipeline stage {stage}"));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut words = Vec::new();
        loop {
            self.peek_word();
            if let Some(word) = self.operand()? {
                words.push(word);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelimiter | Kind::RightParen => {
                    self.back(token);
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        let (Some(first), Some(last)) = (words.first(), words.last()) else {
            return self.error("empty command");
        };
        let span = Span::new(first.span.start, last.span.end);
        Ok(Command { words, span })
    }

    fn operand(&mut self) -> Parsed<Option<Word>> {
        let Some(word) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != Kind::Field {
            return Ok(Some(word));
        }
        let mut fields = Vec::new();
        // As in Go, errors name the place of the second part.
        let mut span = Span {
            at: self.peek().start,
            ..word.span
        };
        while self.peek().kind == Kind::Field {
            let token = self.next();
            span.end = token.end;
            fields.push(token.text[1..].to_owned());
        }
        let operand = match word.operand {
            Operand::Field(mut path) => {
                path.append(&mut fields);
                Operand::Field(path)
            }
            Operand::Variable(name, mut path) => {
                path.append(&mut fields);
                Operand::Variable(name, path)
            }
            Operand::Bool(_)
            | Operand::Text(_)
            | Operand::Number(_)
            | Operand::Nil
            | Operand::Dot => {
                let term = &self.text[word.span.start..word.span.end];
                let term = format::quoted(term.as_bytes());
                return self.error(format!("unexpected . after term {term}"));
            }
            _ => Operand::Chain(Box::new(word), fields),
        };
        Ok(Some(Word { operand, span }))
    }

    fn term(&mut self) -> Parsed<Option<Word>> {
        let token = self.next_word();
        let mut span = Span::new(token.start, token.end);
        let operand = match token.kind {
            Kind::Identifier => {
                if !self.allowed.has(&token.text) {
                    return self.unknown_function(&token);
                }
                Operand::Function(token.text)
            }
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Variable => {
                if !self.variables.contains(&token.text) {
                    let name = format::quoted(token.text.as_bytes());
                    return self.error(format!("undefined variable {name}"));
                }
                Operand::Variable(token.text, Vec::new())
            }
            Kind::Field => Operand::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => Operand::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => {
                match literal::number(&token.text, token.kind) {
                    Ok(number) => Operand::Number(number),
                    Err(text) => return self.error(text),
                }
            }
            Kind::LeftParen => {
                let pipeline = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                span.end = self.last.as_ref().map_or(span.end, |token| token.end);
                Operand::Pipeline(Box::new(pipeline))
            }
            Kind::String | Kind::RawString => Operand::Text(self.unquoted(&token)?),
            _ => {
                self.back(token);
                return Ok(None);
            }
        };
        Ok(Some(Word { operand, span }))
    }

    fn unknown_function<T>(&self, token: &Token) -> Parsed<T> {
        let name = format::quoted(token.text.as_bytes());
        let result = self.error(format!("function {name} not defined"));
        let hint = functions::hint_for(&token.text);
        result.map_err(|mut error: Box<TemplateError>| {
            error.hint = hint.or(error.hint.take());
            error
        })
    }
}
