//! Why a template cannot be rendered, with its place.

/// A place in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The index of the source.
    pub file: usize,
    /// Starts at 1.
    pub line: u32,
    /// In characters, starting at 1.
    pub column: u32,
}

impl Place {
    /// The place of a byte offset in a text.
    pub(super) fn of(file: usize, text: &str, offset: usize) -> Place {
        let before = &text[..floor(text, offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            file,
            line: 1 + before.bytes().filter(|byte| *byte == b'\n').count() as u32,
            column: 1 + before[line_start..].chars().count() as u32,
        }
    }
}

fn floor(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// An error of parsing or of execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// In Go's words, `template: FILE:LINE: TEXT` or `template: FILE:LINE:COLUMN: executing "NAME" at <TERM>: TEXT`.
    pub message: String,
    /// Only the text.
    pub text: String,
    pub place: Place,
    /// The failing term as written. Empty for parse errors.
    pub term: String,
    /// Where the enclosing templates were called, innermost first.
    pub calls: Vec<Place>,
    /// What to write instead.
    pub hint: Option<String>,
}

impl TemplateError {
    /// An error that has no place in a template.
    pub(super) fn internal(text: &str) -> TemplateError {
        TemplateError {
            message: text.to_owned(),
            text: text.to_owned(),
            place: Place {
                file: 0,
                line: 1,
                column: 1,
            },
            term: String::new(),
            calls: Vec::new(),
            hint: None,
        }
    }

    pub(super) fn parse(
        file: usize,
        name: &str,
        text: &str,
        start: usize,
        line: u32,
        error: String,
    ) -> TemplateError {
        let mut place = Place::of(file, text, start);
        place.line = line;
        TemplateError {
            message: format!("template: {name}:{line}: {error}"),
            hint: hint_for_syntax(text, start, &error),
            text: error,
            place,
            term: String::new(),
            calls: Vec::new(),
        }
    }
}

/// Whether an error is about a file name without quotes: `auth.json`, or any word after `include`.
fn is_file_name(text: &str, start: usize, error: &str) -> bool {
    let (before, rest) = text.split_at(floor(text, start));
    if error.starts_with("unexpected .") {
        return rest.starts_with(".json");
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    let after = end.map_or("", |end| &rest[end..]);
    let ending = after.strip_prefix('.').unwrap_or_default();
    let is_dotted = ending.starts_with(char::is_alphabetic);
    error.starts_with("function ") && (is_dotted || before.trim_end().ends_with("include"))
}

/// The correct form of common syntax errors.
fn hint_for_syntax(text: &str, start: usize, error: &str) -> Option<String> {
    let hint = if error.starts_with("unexpected \"=\"") {
        "there are no operators: write `eq a b` to compare, `$x := …` to declare"
    } else if error.starts_with("unexpected \"&\"") || error.starts_with("unexpected \"|\"") {
        "there are no operators: write `and a b` or `or a b`"
    } else if error.starts_with("illegal number syntax: \"+\"") {
        "there are no operators: write `add 1 2`"
    } else if error.starts_with("illegal number syntax: \"-\"") {
        "there are no operators: write `sub 1 2`; a name with a minus needs `index . \"the-name\"`"
    } else if error.starts_with("bad character U+005B") {
        "an element of a list is `index .list 0`"
    } else if error.starts_with("bad character U+002D") {
        "a key with a minus cannot follow a dot: write `index .file \"the-key\"`"
    } else if error.starts_with("bad character U+002F") {
        "a file name is a string: write `include \"folder/file\"`"
    } else if error.starts_with("unexpected \"(\"") {
        "arguments follow the name of a function after a blank, without parentheses: `add 1 2`"
    } else if error.contains("U+201C") || error.contains("U+201D") || error.contains("U+2018") {
        "these are typographic quotes: write \"…\""
    } else if is_file_name(text, start, error) {
        "a file name is a string: write `include \"auth.json\"`"
    } else {
        return None;
    };
    Some(hint.to_owned())
}
