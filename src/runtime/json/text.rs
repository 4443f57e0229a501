//! The text of a value in a URL: `{resp0_id}`.

use std::borrow::Cow;

use super::value::Value;

impl Value {
    /// The text of the value at `path`, a dotted path through objects. `None` if there is no such value.
    ///
    /// As in KrakenD: strings as they are, numbers as the upstream wrote them, lists joined by commas, null as
    /// `<nil>`, objects in Go's notation.
    pub fn text_at(&self, path: &str) -> Option<Cow<'_, str>> {
        match self {
            Value::Object(object) => {
                // A name may contain dots itself, but KrakenD splits at each of them.
                let (name, rest) = match path.split_once('.') {
                    Some((name, rest)) => (name, Some(rest)),
                    None => (path, None),
                };
                let member = object.get(name)?;
                match rest {
                    Some(rest) => member.text_at(rest),
                    None => Some(member.text()),
                }
            }
            Value::Raw(_) => {
                let mut opened = self.clone();
                opened.as_object_mut()?;
                opened
                    .text_at(path)
                    .map(|text| Cow::Owned(text.into_owned()))
            }
            _ => None,
        }
    }

    /// The whole value as text.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Value::String(text) | Value::Number(text) => Cow::Borrowed(text),
            Value::Raw(_) => Cow::Owned(self.expanded().text().into_owned()),
            Value::Array(elements) => {
                let mut out = String::new();
                join(&mut out, elements, ",");
                Cow::Owned(out)
            }
            other => {
                let mut out = String::new();
                print(&mut out, other);
                Cow::Owned(out)
            }
        }
    }
}

/// Go's `%v`.
fn print(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(text) | Value::String(text) => out.push_str(text),
        Value::Array(elements) => {
            out.push('[');
            join(out, elements, " ");
            out.push(']');
        }
        Value::Object(object) => {
            out.push_str("map[");
            for (at, (name, member)) in object.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(name);
                out.push(':');
                print(out, member);
            }
            out.push(']');
        }
        Value::Raw(_) => print(out, &value.expanded()),
    }
}

fn join(out: &mut String, elements: &[Value], separator: &str) {
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        print(out, element);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Depth, parse};

    #[test]
    fn values_become_text_as_in_krakend() {
        let body = r#"{"id":7,"f":1.50,"s":"a b\/c?d","b":true,"l":[1,"x",null],"e":[],"o":{"i":"deep","a":[1,{"k":2}]},"nul":null}"#;
        let cases = [
            ("id", Some("7")),
            ("f", Some("1.50")),
            ("s", Some("a b/c?d")),
            ("b", Some("true")),
            ("l", Some("1,x,<nil>")),
            ("e", Some("")),
            ("o.i", Some("deep")),
            ("o", Some("map[a:[1 map[k:2]] i:deep]")),
            ("nul", Some("<nil>")),
            ("nope", None),
            ("o.nope", None),
            ("l.0", None),
            ("id.x", None),
        ];
        for depth in [Depth::TopLevel, Depth::Full] {
            let value = parse(&Bytes::from_static(body.as_bytes()), depth).expect("valid JSON");
            for (path, expected) in cases {
                assert_eq!(value.text_at(path).as_deref(), expected, "{path}");
            }
        }
    }
}
