//! Parses TOML to the tree.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::report::SyntaxError;
use super::value::{Data, Member, Position, Value};

/// Parses a text (TOML 1.1).
///
/// # Errors
/// The error of the `toml` crate, with its position. Duplicate keys are errors in TOML.
pub(crate) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let lines = Lines::new(text);
    match DeTable::parse(text) {
        Ok(table) => Ok(Value::new(
            Position::new(1, 1),
            object(table.get_ref(), &lines),
        )),
        Err(error) => Err(SyntaxError {
            at: lines.position(error.span().map_or(0, |span| span.start)),
            text: error.message().to_owned(),
            hint: None,
        }),
    }
}

fn object(table: &DeTable<'_>, lines: &Lines<'_>) -> Data {
    let mut members: Vec<Member> = table
        .iter()
        .map(|(name, entry)| Member {
            name: name.get_ref().as_ref().into(),
            at: lines.position(name.span().start),
            value: value(entry, lines),
        })
        .collect();
    members.sort_by_key(|member| member.at);
    Data::Object(members)
}

fn value(spanned: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Value {
    let data = match spanned.get_ref() {
        DeValue::String(text) => Data::Text(text.as_ref().into()),
        DeValue::Integer(integer) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => {
                    let at = lines.position(spanned.span().start);
                    return Value::integer(at, number.to_string());
                }
                Err(_) => Data::Number(integer.as_str().into()),
            }
        }
        DeValue::Float(float) => match float.as_str() {
            // These are not JSON numbers. Reading one as a number gives an error.
            text if text.contains("inf") || text.contains("nan") => Data::Text(text.into()),
            text => Data::Number(text.trim_start_matches('+').into()),
        },
        DeValue::Boolean(yes) => Data::Bool(*yes),
        DeValue::Datetime(datetime) => Data::Text(datetime.to_string().into()),
        DeValue::Array(items) => Data::List(items.iter().map(|item| value(item, lines)).collect()),
        DeValue::Table(table) => object(table, lines),
    };
    Value::new(lines.position(spanned.span().start), data)
}

/// The starts of the lines, to convert offsets to positions.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Lines<'t> {
        let newlines = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Lines {
            text,
            starts: std::iter::once(0).chain(newlines).collect(),
        }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = match self.text.get(start..offset) {
            Some(before) => before.chars().count(),
            None => 0,
        };
        Position::new(line as u32, column as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_becomes_the_same_tree_with_positions() {
        let value = parse("version = 3\ntimeout = \"2s\"\n[[endpoints]]\nendpoint = \"/é\"\nconcurrent_calls = 1_0\n").unwrap();
        assert_eq!(
            value.to_json(),
            r#"{"endpoints":[{"concurrent_calls":10,"endpoint":"/é"}],"timeout":"2s","version":3}"#
        );
        assert_eq!(value.get("timeout").unwrap().at, Position::new(2, 11));
    }

    #[test]
    fn toml_errors_have_a_position() {
        let error = parse("version = 3\nname = \n").unwrap_err();
        assert_eq!(error.at.line, 2);
    }
}
