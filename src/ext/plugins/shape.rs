//! The blocks of plugins whose namespaces have other keys.

use crate::config::value::Member;
use crate::config::{Data, Position, Value};

/// How the block of a plugin becomes the block of a namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// It has the same keys. The plugin needs its block.
    Same,
    /// `no_redirect` of `backend/http/client`. The plugin has no block.
    NoRedirect,
    /// `proxy_address` of `backend/http/client`, from `proxy_address` or `address`.
    Proxy,
    /// `modifiers` of `modifier/response-body`.
    Replacer,
    /// The plugin has no effect here. The text says why.
    Nothing(&'static str),
}

/// What a block became.
#[derive(Debug, PartialEq)]
pub(crate) enum Moved {
    /// The block of the namespace.
    Block(Value),
    /// One key of it; other keys may be present.
    Key(&'static str, Value),
    Nothing(&'static str),
}

impl Shape {
    /// The block of the namespace. `at` is the position of the plugin.
    ///
    /// # Errors
    /// What is wrong with the plugin's block.
    /// The keys of the plugin, where its namespace does not check them.
    pub(crate) fn keys(self) -> Option<&'static [&'static str]> {
        match self {
            Shape::NoRedirect => Some(&[]),
            Shape::Proxy => Some(&["proxy_address", "address"]),
            Shape::Nothing(_) | Shape::Same | Shape::Replacer => None,
        }
    }

    pub(crate) fn moved(self, block: Option<&Value>, at: Position) -> Result<Moved, String> {
        match self {
            Shape::Nothing(why) => Ok(Moved::Nothing(why)),
            Shape::NoRedirect => Ok(Moved::Key("no_redirect", Value::new(at, Data::Bool(true)))),
            Shape::Same => match block {
                Some(block) => Ok(Moved::Block(block.clone())),
                None => Err("its block is missing".to_owned()),
            },
            Shape::Proxy => proxy(block),
            Shape::Replacer => block
                .ok_or_else(|| "its block is missing".to_owned())
                .and_then(replacements)
                .map(Moved::Block),
        }
    }
}

fn proxy(block: Option<&Value>) -> Result<Moved, String> {
    let address = block.and_then(|block| match &block.data {
        Data::Text(_) => Some(block),
        _ => ["proxy_address", "address"]
            .iter()
            .find_map(|key| block.get(key)),
    });
    match address {
        Some(address) => Ok(Moved::Key("proxy_address", address.clone())),
        None => Err("the address of the proxy is missing: \"proxy_address\"".to_owned()),
    }
}

/// `{"field": {"find": …, "replace": …, "regexp": …}}` as a list of modifiers, in the order of the file.
fn replacements(block: &Value) -> Result<Value, String> {
    let fields = block.members().iter();
    let fields = fields.filter(|field| !crate::config::key::is_comment(&field.name));
    let modifiers = fields.map(replacement).collect::<Result<_, _>>()?;
    let modifiers = Value::new(block.at, Data::List(modifiers));
    Ok(object(block.at, vec![member("modifiers", modifiers)]))
}

fn replacement(field: &Member) -> Result<Value, String> {
    let rule = &field.value;
    let part = |key: &str| {
        let found = rule
            .get(key)
            .filter(|value| matches!(value.data, Data::Text(_)));
        found
            .cloned()
            .ok_or_else(|| format!("{:?} needs a string {key:?}", field.name))
    };
    let is_regexp = match rule.get("regexp").map(|value| &value.data) {
        None | Some(Data::Null) => false,
        Some(Data::Bool(is)) => *is,
        Some(_) => {
            return Err(format!(
                "\"regexp\" of {:?} is not true or false",
                field.name
            ));
        }
    };
    let name = Value::new(field.at, Data::Text(field.name.clone()));
    let inner = object(
        rule.at,
        vec![
            member("field", name),
            member("find", part("find")?),
            member("replace", part("replace")?),
        ],
    );
    let kind = if is_regexp { "regexp" } else { "literal" };
    Ok(object(rule.at, vec![member(kind, inner)]))
}

fn object(at: Position, members: Vec<Member>) -> Value {
    Value::new(at, Data::Object(members))
}

fn member(name: &str, value: Value) -> Member {
    Member {
        name: name.into(),
        at: value.at,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Report, json};

    fn moved(shape: Shape, block: &str) -> Result<String, String> {
        let block = json::parse(block, &Report::new()).unwrap();
        let block = (!block.is_null()).then_some(&block);
        Ok(match shape.moved(block, Position::UNKNOWN)? {
            Moved::Block(block) => block.to_json(),
            Moved::Key(key, value) => format!("{key}={}", value.to_json()),
            Moved::Nothing(why) => why.to_owned(),
        })
    }

    #[test]
    fn replacements_become_modifiers_in_their_order() {
        let block = r#"{"b.c": {"find": "x", "replace": "y"}, "@note": 1, "a": {"find": "(.)", "replace": "$1", "regexp": true}}"#;
        assert_eq!(
            moved(Shape::Replacer, block).unwrap(),
            r#"{"modifiers":[{"literal":{"field":"b.c","find":"x","replace":"y"}},{"regexp":{"field":"a","find":"(.)","replace":"$1"}}]}"#
        );
        for bad in [
            r#"{"a": {"find": "x"}}"#,
            r#"{"a": {"find": "x", "replace": 1}}"#,
            r#"{"a": {"find": "x", "replace": "", "regexp": "yes"}}"#,
            r#"{"a": 1}"#,
            "null",
        ] {
            assert!(moved(Shape::Replacer, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_proxy_may_be_a_text_or_a_key() {
        for block in [
            r#""http://p:1""#,
            r#"{"proxy_address": "http://p:1"}"#,
            r#"{"address": "http://p:1"}"#,
        ] {
            assert_eq!(
                moved(Shape::Proxy, block).unwrap(),
                "proxy_address=\"http://p:1\""
            );
        }
        assert!(moved(Shape::Proxy, "{}").is_err());
        assert!(moved(Shape::Proxy, "null").is_err());
        assert!(moved(Shape::Same, "null").is_err());
        assert_eq!(
            moved(Shape::NoRedirect, "null").unwrap(),
            "no_redirect=true"
        );
    }
}
