//! Finds functions of gopher-lua that do not exist here, so that the start fails and not each request.

use super::syntax::{Token, tokens};

/// The libraries with functions that do not exist here, and these functions. An empty list means all of them.
const MISSING: [(&str, &[&str]); 3] = [
    ("channel", &[]),
    ("os", &["setlocale", "setenv"]),
    (
        "debug",
        &[
            "getlocal",
            "setlocal",
            "getupvalue",
            "setupvalue",
            "sethook",
        ],
    ),
];

/// A use of a function that does not exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The text that uses it, by its position.
    pub(super) text: usize,
    pub(super) name: String,
    pub(super) line: usize,
}

/// The uses of such functions in the texts of a block: the first one of each library. If a text defines or tests the
/// name of a library itself, no text is searched for it.
pub(super) fn missing(texts: &[&str]) -> Vec<Missing> {
    let all: Vec<Vec<Token<'_>>> = texts
        .iter()
        .map(|text| tokens(text).unwrap_or_default())
        .collect();
    MISSING
        .iter()
        .filter_map(|(library, functions)| {
            let mut found = None;
            for (text, tokens) in all.iter().enumerate() {
                match uses(tokens, library, functions) {
                    Uses::Own => return None,
                    Uses::Function(name, line) if found.is_none() => {
                        found = Some(Missing { text, name, line });
                    }
                    Uses::Function(..) | Uses::Nothing => {}
                }
            }
            found
        })
        .collect()
}

/// How a text uses the name of a library.
enum Uses {
    Nothing,
    /// It has a variable of this name, or tests whether the library exists.
    Own,
    /// It uses a function that does not exist: the name, and the line.
    Function(String, usize),
}

fn uses(tokens: &[Token<'_>], library: &str, functions: &[&str]) -> Uses {
    let mut found = Uses::Nothing;
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        let is_member = before.is_some_and(|before| before.is(".") || before.is(":"));
        if !token.is_name() || token.text != library || is_member {
            continue;
        }
        let (function, after) = match tokens.get(index + 1..) {
            Some([dot, function, after @ ..]) if dot.is(".") => (function, after.first()),
            _ => return Uses::Own,
        };
        if !functions.is_empty() && !functions.contains(&function.text) {
            continue;
        }
        if after.is_some_and(|after| after.is("=")) {
            return Uses::Own;
        }
        if matches!(found, Uses::Nothing) {
            found = Uses::Function(format!("{library}.{}", function.text), token.line);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_do_not_exist_are_found() {
        for (text, name, line) in [
            ("local c = channel.make(1)\nc:send(1)", "channel.make", 1),
            ("local t = {}\npcall(os.setlocale, 'C')", "os.setlocale", 2),
            ("if x then os.setenv('A', 'b') end", "os.setenv", 1),
            ("return debug.getlocal(1, 1)", "debug.getlocal", 1),
            ("os.setenv('a', 'b')\nchannel.select()", "channel.select", 2),
        ] {
            let found = missing(&["x = 1", text]).remove(0);
            let name = name.to_owned();
            assert_eq!(
                found,
                Missing {
                    text: 1,
                    name,
                    line
                },
                "{text}"
            );
        }
    }

    #[test]
    fn names_of_the_script_itself_and_other_functions_are_not() {
        for text in [
            "os.time() debug.traceback()",
            "local channel = {make = f} channel.make(1)",
            "function f(channel) return channel.make(1) end",
            "if channel then channel.make(1) end",
            "x.channel.make(1) y:channel().make()",
            "os.setenv = function() end os.setenv('a', 'b')",
            "-- channel.make(1)\nlocal s = 'os.setlocale()'",
            "channel",
            "channel.make('",
        ] {
            assert_eq!(missing(&[text]), [], "{text}");
        }
        assert_eq!(missing(&["channel = {}", "channel.make(1)"]), []);
    }
}
