//! `backend/graphql`: replaces the client's method and body with a query or mutation.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::failure::Failure;
use super::json::{self, Object, Out, Style, Unmade, Value, write_object, write_string};
use super::request::Params;
use super::template::escape;
use crate::upstream::Outgoing;
use crate::upstream::budget::Full;

/// Everything outside the unreserved characters of RFC 3986 §2.3.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The longest variables, as JSON, that are sent in a query string. Servers do not take longer ones.
const MOST_IN_QUERY: usize = 64 * 1024;

/// The configured GraphQL operation of a backend, before it is compiled.
#[derive(Debug, Clone)]
pub struct GraphQlSpec {
    pub operation: Operation,
    /// Sends it in the query string instead of a body.
    pub by_get: bool,
    pub query: String,
    /// Empty if there is none.
    pub operation_name: String,
    pub variables: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The variables come from the configuration, some of them from path parameters.
    Query,
    /// The variables come from the client's body. The configuration adds missing ones, some of them from path
    /// parameters.
    Mutation,
}

/// A compiled operation.
#[derive(Debug, Clone)]
pub struct GraphQl {
    operation: Operation,
    by_get: bool,
    query: Box<str>,
    operation_name: Box<str>,
    variables: Box<[(Box<str>, Variable)]>,
    /// The body, or the pairs of the query string, if no request changes them.
    fixed: Option<Bytes>,
}

#[derive(Debug, Clone)]
enum Variable {
    Fixed(Value),
    /// The whole value is `{name}`: the endpoint's parameter with this name, as a string. The case of the first
    /// letter is ignored.
    Param(Arc<str>),
}

impl GraphQl {
    /// Precomputes everything that does not depend on a request.
    pub fn compile(spec: GraphQlSpec) -> GraphQl {
        let operation = spec.operation;
        let variables: Box<[_]> = spec
            .variables
            .iter()
            .map(|(name, value)| (name.as_str().into(), variable(value)))
            .collect();
        let constant = |variable: &Variable| matches!(variable, Variable::Fixed(_));
        let is_fixed =
            operation == Operation::Query && variables.iter().all(|(_, value)| constant(value));
        let mut graphql = GraphQl {
            operation,
            by_get: spec.by_get,
            query: spec.query.into(),
            operation_name: spec.operation_name.into(),
            variables,
            fixed: None,
        };
        if is_fixed {
            // Without memory now, it is made for each request.
            let written = graphql.written(&graphql.configured(&Params::default()));
            graphql.fixed = written.ok();
        }
        graphql
    }

    /// Turns a call into this operation: method, body or query string, `Content-Type`, `Content-Length`.
    ///
    /// # Errors
    /// For a mutation, the client's body is not a JSON object.
    pub fn apply(&self, out: &mut Outgoing, params: &Params) -> Result<(), Failure> {
        let written = match (&self.fixed, self.operation) {
            (Some(fixed), _) => fixed.clone(),
            (None, Operation::Query) => self.written(&self.configured(params))?,
            (None, Operation::Mutation) => {
                // Variables are written from a tree.
                let _held = json::charge(&out.body).map_err(|Full| Failure::full())?;
                self.written(&self.of_client(&out.body, params)?)?
            }
        };
        if self.by_get {
            out.method = Method::GET;
            out.body = Bytes::new();
            out.headers.remove(CONTENT_TYPE);
            out.headers.remove(CONTENT_LENGTH);
            let mark = if out.target.contains('?') { '&' } else { '?' };
            let query = String::from_utf8_lossy(&written);
            let size = 2 * (out.target.len() + query.len());
            let _held = json::charge_bytes(size).map_err(|Full| Failure::full())?;
            out.target = format!("{}{mark}{query}", out.target).into();
            return Ok(());
        }
        out.method = Method::POST;
        out.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        out.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(written.len()));
        out.body = written;
        Ok(())
    }

    /// The configured variables with their parameters. As in KrakenD, a missing parameter is empty in a query.
    fn configured(&self, params: &Params) -> Object {
        let value = |variable: &Variable| match variable {
            Variable::Fixed(value) => value.clone(),
            Variable::Param(name) => match (param(params, name), self.operation) {
                (Some(value), _) => Value::string(escape::text(value)),
                (None, Operation::Query) => Value::string(""),
                // It is not a placeholder but a text in braces.
                (None, Operation::Mutation) => Value::string(format!("{{{name}}}")),
            },
        };
        self.variables
            .iter()
            .map(|(name, variable)| (name.clone(), value(variable)))
            .collect()
    }

    /// The client's variables, and the configured ones that it did not send. An empty body and null contain no
    /// variables.
    fn of_client(&self, body: &Bytes, params: &Params) -> Result<Object, Failure> {
        let configured = self.configured(params);
        if body.trim_ascii().is_empty() {
            return Ok(configured);
        }
        let reject = |error: json::Error| {
            Failure::bad_input(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        };
        let mut value = json::parse_whole(body).map_err(reject)?;
        let found = value.kind();
        let mut variables = match (value.as_object_mut(), found) {
            (Some(object), _) => std::mem::take(object),
            (None, json::Kind::Null) => Object::new(),
            (None, found) => {
                return Err(reject(json::Error::WrongType {
                    found: found.name(),
                    wanted: "map[string]interface {}",
                }));
            }
        };
        for (name, value) in configured {
            variables.entry(name).or_insert(value);
        }
        Ok(variables)
    }

    fn written(&self, variables: &Object) -> Result<Bytes, Failure> {
        let names = variables.iter();
        let sizes = names.map(|(name, value)| name.len() + 4 + json::size_hint(value));
        let hint = 64 + self.query.len() + sizes.sum::<usize>();
        let made = |Full| Failure::full();
        if !self.by_get {
            return json::made(&Body(self, variables), hint).map_err(made);
        }
        let text = if variables.is_empty() {
            Bytes::new()
        } else {
            json::made(variables, hint).map_err(made)?
        };
        if text.len() > MOST_IN_QUERY {
            return Err(Failure::bad_input(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the variables of GraphQL have more than {MOST_IN_QUERY} bytes"),
            ));
        }
        let variables = String::from_utf8_lossy(&text);
        json::made(&Pairs(self, &variables), hint).map_err(made)
    }
}

/// `{"query":…,"operationName":…,"variables":{…}}`, where the last two are omitted if empty.
struct Body<'g>(&'g GraphQl, &'g Object);

impl Unmade for Body<'_> {
    fn write(&self, out: &mut impl Out) {
        let Body(graphql, variables) = self;
        out.put(b"{\"query\":");
        write_string(out, &graphql.query);
        if !graphql.operation_name.is_empty() {
            out.put(b",\"operationName\":");
            write_string(out, &graphql.operation_name);
        }
        if !variables.is_empty() {
            out.put(b",\"variables\":");
            Unmade::write(*variables, out);
        }
        out.put(b"}");
    }
}

/// `query=…&operationName=…&variables=…`, encoded, where the last two are omitted if empty.
struct Pairs<'g>(&'g GraphQl, &'g str);

impl Unmade for Pairs<'_> {
    fn write(&self, out: &mut impl Out) {
        let Pairs(graphql, variables) = self;
        let mut put = |name: &str, text: &str| {
            out.put(name.as_bytes());
            for piece in utf8_percent_encode(text, QUERY_VALUE) {
                out.put(piece.as_bytes());
            }
        };
        put("query=", &graphql.query);
        for (name, text) in [
            ("&operationName=", &*graphql.operation_name),
            ("&variables=", variables),
        ] {
            if !text.is_empty() {
                put(name, text);
            }
        }
    }
}

impl Unmade for Object {
    fn write(&self, out: &mut impl Out) {
        write_object(out, self, Style::Canonical);
    }
}

/// The value of the parameter `name`, where the case of the first letter is ignored.
fn param<'p>(params: &'p Params, name: &str) -> Option<&'p str> {
    let same = |known: &str| match (known.split_at_checked(1), name.split_at_checked(1)) {
        (Some((first, rest)), Some((its_first, its_rest))) => {
            first.eq_ignore_ascii_case(its_first) && rest == its_rest
        }
        _ => known == name,
    };
    let exact = params.get(name);
    let mut params = params.0.iter();
    exact.or_else(|| {
        params
            .find(|(known, _)| same(known))
            .map(|(_, value)| value.as_str())
    })
}

fn variable(value: &serde_json::Value) -> Variable {
    let name = value
        .as_str()
        .and_then(|text| text.strip_prefix('{')?.strip_suffix('}'))
        .filter(|name| !name.is_empty());
    match name {
        Some(name) => Variable::Param(name.into()),
        None => Variable::Fixed(Value::literal(value).settled()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::runtime::failure::{Guard, Kind};

    fn spec(operation: Operation, variables: serde_json::Value) -> GraphQlSpec {
        GraphQlSpec {
            operation,
            by_get: false,
            query: "{h}".to_owned(),
            operation_name: String::new(),
            variables: variables.as_object().cloned().unwrap_or_default(),
        }
    }

    fn sent(spec: GraphQlSpec, body: &str) -> Result<Outgoing, Failure> {
        let mut params = Params::default();
        params.0.push(("id".into(), "77".to_owned()));
        let mut out = Outgoing {
            method: Method::PUT,
            target: "/graphql".into(),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            subject: None,
            affinity: None,
        };
        GraphQl::compile(spec).apply(&mut out, &params)?;
        Ok(out)
    }

    #[test]
    fn a_query_is_posted_with_parameters_as_strings() {
        let spec = spec(
            Operation::Query,
            json!({"id": "{id}", "lim": 3, "s": "st", "nope": "{nope}", "up": "{Id}"}),
        );
        let out = sent(spec, "ignored").expect("a call");
        assert_eq!(out.method, Method::POST);
        assert_eq!(
            out.body,
            r#"{"query":"{h}","variables":{"id":"77","lim":3,"nope":"","s":"st","up":"77"}}"#
        );
        assert_eq!(out.headers[CONTENT_TYPE], "application/json");
        assert_eq!(out.headers[CONTENT_LENGTH], out.body.len().to_string());
    }

    #[test]
    fn invalid_utf8_in_a_parameter_is_replaced() {
        let mut params = Params::default();
        params.0.push(("id".into(), escape::kept(b"caf\xe9")));
        let mut out = Outgoing {
            method: Method::GET,
            target: "/graphql".into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            subject: None,
            affinity: None,
        };
        let spec = spec(Operation::Query, json!({"id": "{id}"}));
        GraphQl::compile(spec)
            .apply(&mut out, &params)
            .expect("a call");
        assert_eq!(out.body, r#"{"query":"{h}","variables":{"id":"caf�"}}"#);
    }

    #[test]
    fn empty_members_are_omitted() {
        let out = sent(spec(Operation::Query, json!({})), "").expect("a call");
        assert_eq!(out.body, r#"{"query":"{h}"}"#);
        let mut named = spec(Operation::Query, json!({}));
        named.operation_name = "H<".to_owned();
        let out = sent(named, "").expect("a call");
        assert_eq!(out.body, r#"{"query":"{h}","operationName":"H\u003c"}"#);
    }

    #[test]
    fn the_query_is_present_even_if_it_is_empty() {
        let mut spec = spec(Operation::Query, json!({}));
        spec.query.clear();
        assert_eq!(
            sent(spec.clone(), "").expect("a call").body,
            r#"{"query":""}"#
        );
        spec.operation = Operation::Mutation;
        spec.operation_name = "Op".to_owned();
        let out = sent(spec.clone(), "").expect("a call");
        assert_eq!(out.body, r#"{"query":"","operationName":"Op"}"#);
        spec.by_get = true;
        let out = sent(spec, "").expect("a call");
        assert_eq!(out.target, "/graphql?query=&operationName=Op");
    }

    #[test]
    fn a_mutation_uses_the_members_of_the_client_and_adds_the_rest() {
        let spec = || {
            let variables =
                json!({"a": "def", "b": "{Id}", "n": "{nope}", "e": "{}", "l": ["{id}"]});
            spec(Operation::Mutation, variables)
        };
        let out = sent(spec(), r#"{"a":{"x":1},"c":1.10}"#).expect("a call");
        assert_eq!(
            out.body,
            r#"{"query":"{h}","variables":{"a":{"x":1},"b":"77","c":1.10,"e":"{}","l":["{id}"],"n":"{nope}"}}"#
        );
        let out = sent(spec(), r#"{"b":null}"#).expect("a call");
        assert_eq!(
            out.body,
            r#"{"query":"{h}","variables":{"a":"def","b":null,"e":"{}","l":["{id}"],"n":"{nope}"}}"#
        );
    }

    #[test]
    fn a_mutation_without_a_body_sends_the_configured_variables() {
        for body in ["", " \r\n", "null", "{}"] {
            let out = sent(spec(Operation::Mutation, json!({"b": "{id}"})), body).expect("a call");
            assert_eq!(
                out.body, r#"{"query":"{h}","variables":{"b":"77"}}"#,
                "{body:?}"
            );
            let out = sent(spec(Operation::Mutation, json!({})), body).expect("a call");
            assert_eq!(out.body, r#"{"query":"{h}"}"#, "{body:?}");
        }
    }

    #[test]
    fn a_mutation_rejects_a_body_that_is_not_a_json_object() {
        for (body, text) in [
            ("{", "unexpected end of JSON input"),
            (
                "[]",
                "json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            ("{} x", "invalid character 'x' after top-level value"),
            (
                "nope",
                "invalid character 'o' in literal null (expecting 'u')",
            ),
        ] {
            let failure = sent(spec(Operation::Mutation, json!({})), body).expect_err(body);
            assert_eq!(failure.text, text);
            assert_eq!(failure.kind, Kind::Guarded(Guard::BadInput));
        }
    }

    #[test]
    fn long_variables_are_not_put_into_the_query_string() {
        let text = Value::string("<".repeat(100_000));
        let variables: Object = [("a".into(), text)].into();
        let mut spec = spec(Operation::Mutation, json!({}));
        let body = GraphQl::compile(spec.clone()).written(&variables);
        assert!(body.expect("a body").len() > 600_000);
        spec.by_get = true;
        let failure = GraphQl::compile(spec)
            .written(&variables)
            .expect_err("long");
        assert_eq!(failure.status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn with_get_everything_is_in_the_query_string() {
        let mut spec = spec(Operation::Query, json!({"id": "{id}"}));
        spec.by_get = true;
        spec.operation_name = "Get".to_owned();
        let out = sent(spec, "body").expect("a call");
        assert_eq!(out.method, Method::GET);
        assert!(out.body.is_empty());
        assert_eq!(
            out.target,
            "/graphql?query=%7Bh%7D&operationName=Get&variables=%7B%22id%22%3A%2277%22%7D"
        );
    }
}
