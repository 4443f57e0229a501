use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::jose::Rejection;
use crate::runtime::failure::Failure;
use crate::runtime::forward::Pair;
use crate::runtime::request::Params;
use crate::runtime::router::Pattern;

#[derive(Default)]
struct Fixture {
    params: Params,
    claims: HashMap<String, String>,
    responses: HashMap<(usize, String), String>,
}

impl Values for Fixture {
    fn params(&self) -> &Params {
        &self.params
    }

    fn claim(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        Ok(self.claims.get(name).map(|v| Cow::Borrowed(v.as_str())))
    }

    fn response(&self, backend: usize, path: &str) -> Option<Cow<'_, str>> {
        let key = (backend, path.to_owned());
        self.responses.get(&key).map(|v| Cow::Borrowed(v.as_str()))
    }
}

fn endpoint(path: &str) -> Pattern {
    Pattern::parse(path, true).unwrap()
}

fn params(pairs: &[(&str, &str)]) -> Params {
    let pairs = pairs.iter().map(|(n, v)| (Arc::from(*n), (*v).to_owned()));
    Params(pairs.collect())
}

fn with_param(url: &str, value: &str) -> Result<String, Failure> {
    let template = Template::parse(url, &endpoint("/a/{x}")).unwrap();
    let target = template.render(&params(&[("x", value)]), &[]);
    target.map(|target| target.to_string())
}

#[test]
fn values_are_encoded_as_in_krakend() {
    for (value, want) in [
        ("a b", "a%20b"),
        ("é", "%C3%A9"),
        ("a+b", "a+b"),
        ("a:b", "a:b"),
        ("a@b,c;d=e", "a@b,c;d=e"),
        ("a&b=c", "a&b=c"),
        ("$x!", "$x!"),
        ("('x')*", "('x')*"),
        ("...", "..."),
        ("", ""),
    ] {
        assert_eq!(with_param("/c/{x}", value).unwrap(), format!("/c/{want}"));
    }
}

#[test]
fn a_value_never_changes_the_structure_of_the_url() {
    for (value, path, query) in [
        ("a/b", "a%2Fb", "a/b"),
        ("a?b#c", "a%3Fb%23c", "a?b%23c"),
        ("a%20b", "a%2520b", "a%2520b"),
        ("a\\b", "a%5Cb", "a%5Cb"),
        ("a\r\nb", "a%0D%0Ab", "a%0D%0Ab"),
        ("a&b=c", "a&b=c", "a%26b%3Dc"),
        ("a b+c;d", "a%20b+c;d", "a%20b%2Bc%3Bd"),
    ] {
        assert_eq!(
            with_param("/c/{x}/d", value).unwrap(),
            format!("/c/{path}/d")
        );
        assert_eq!(
            with_param("/c?v={x}&w=1", value).unwrap(),
            format!("/c?v={query}&w=1")
        );
    }
}

#[test]
fn dot_segments_are_rejected_unless_configured() {
    for (url, value) in [
        ("/c/{x}/d", ".."),
        ("/c/{x}", "."),
        ("/c/.{x}", "."),
        ("/{x}{x}", "."),
        ("/{x}/d", "..;a"),
        ("/{x}", ".;"),
    ] {
        let failure = with_param(url, value).unwrap_err();
        assert_eq!(failure.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(with_param("/../c//{x}", "1").unwrap(), "/../c//1");
    assert!(with_param("/../c//{x}", "..").is_err());
    assert_eq!(with_param("/c?v=/{x}/", "..").unwrap(), "/c?v=/../");
}

#[test]
fn the_configured_text_is_encoded_for_the_wire() {
    for (url, want) in [
        ("", "/"),
        ("c", "/c"),
        ("/c?k=v#frag", "/c?k=v"),
        ("/a b/é", "/a%20b/%C3%A9"),
        ("/{}/{ a }", "/%7B%7D/%7B%20a%20%7D"),
        ("/a%2Fb?x=a b", "/a%2Fb?x=a%20b"),
        ("/a/*", "/a/*"),
        ("/a?discount=5%", "/a?discount=5%"),
    ] {
        let template = Template::parse(url, &endpoint("/m")).unwrap();
        let target = template.render(&Params::default(), &[]).unwrap();
        let again = template.render(&Params::default(), &[]).unwrap();
        assert_eq!(target.as_ptr(), again.as_ptr(), "the text is shared");
        assert_eq!(target, want);
    }
}

#[test]
fn values_of_earlier_responses_are_encoded_by_position() {
    let mut values = Fixture::default();
    for (path, value) in [
        ("id", "7"),
        ("l", "1,x"),
        ("o", "map[i:deep]"),
        ("s", "a b/c?d"),
        ("e", ""),
    ] {
        values
            .responses
            .insert((0, path.to_owned()), value.to_owned());
    }
    let render = |url| {
        let template = Template::parse(url, &endpoint("/m")).unwrap();
        let target = template.render(&values, &[]);
        target.map(|target| target.to_string())
    };
    assert_eq!(
        render("/echo/{resp0_id}?l={resp0_l}&o={resp0_o}").unwrap(),
        "/echo/7?l=1,x&o=map[i:deep]"
    );
    assert_eq!(render("/echo/{resp0_s}").unwrap(), "/echo/a%20b%2Fc%3Fd");
    assert_eq!(render("/dest/{resp0_e}").unwrap(), "/dest/");
    let failure = render("/dest/{resp0_nope}").unwrap_err();
    assert_eq!(
        failure.to_string(),
        "building the backend URL: no value for {resp0_nope}"
    );
    assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn claims_are_one_segment_or_rejected() {
    let mut values = Fixture::default();
    for (name, value) in [
        ("sub", "../admin"),
        ("q", "a?admin=1"),
        ("https://ex.com/c", "url"),
        ("dots", ".."),
        ("dotty", "..;a"),
        ("none", ""),
    ] {
        values.claims.insert(name.to_owned(), value.to_owned());
    }
    let render = |url| {
        let template = Template::parse(url, &endpoint("/m")).unwrap();
        assert!(template.claims().next().is_some());
        let target = template.render(&values, &[]);
        target.map(|target| target.to_string())
    };
    assert_eq!(render("/u/{JWT.sub}").unwrap(), "/u/..%2Fadmin");
    assert_eq!(
        render("/u/{JWT.q}?q={JWT.q}").unwrap(),
        "/u/a%3Fadmin%3D1?q=a%3Fadmin%3D1"
    );
    assert_eq!(render("/u/{JWT.https://ex.com/c}").unwrap(), "/u/url");
    assert_eq!(
        render("/u/{JWT.dots}").unwrap_err().status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        render("/u/{JWT.dotty}").unwrap_err().status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        render("/u/{JWT.none}").unwrap_err().status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        render("/u/{JWT.gone}/x?y={JWT.https://ex.com/d}").unwrap(),
        "/u/%7B%7B.JWT.gone%7D%7D/x?y=%7B%7B.JWT.https://ex.com/d%7D%7D"
    );
    let template = Template::parse("/{JWT.a}?b={JWT.b}", &endpoint("/m")).unwrap();
    let claims: Vec<_> = template.claims().collect();
    assert_eq!(claims, [("a", true), ("b", false)]);
}

#[test]
fn the_rest_of_a_wildcard_is_passed_on_unchanged() {
    let wild = endpoint("/f/{x}/*");
    let template = Template::parse("/g/{x}/*", &wild).unwrap();
    let values = params(&[("x", "1"), ("*", "a/b%20c//d")]);
    assert_eq!(template.render(&values, &[]).unwrap(), "/g/1/a/b%20c//d");
    let fixed = Template::parse("/g", &wild).unwrap();
    assert_eq!(fixed.render(&values, &[]).unwrap(), "/g");
}

#[test]
fn unknown_placeholders_are_rejected_in_the_words_of_krakend() {
    let message = |url: &str, path: &str| {
        let endpoint = endpoint(path);
        let error = Template::parse(url, &endpoint).unwrap_err();
        error.message(&Method::GET, &endpoint, 0)
    };
    assert_eq!(
        message("/x/{c}", "/a/{b}"),
        "undefined output param 'c'! endpoint: GET /a/:b, backend: 0. input: [b], output: [c]"
    );
    assert_eq!(
        message("/x/{d}/{c}/{b}", "/a/{b}"),
        "input and output params do not match. endpoint: GET /a/:b, backend: 0. input: [b], output: [b c d]"
    );
    assert_eq!(
        message("/x/{c}", "/a"),
        "undefined output param 'c'! endpoint: GET /a, backend: 0. input: [], output: [c]"
    );
    assert!(message("/x/{resp0}", "/a").starts_with("undefined output param 'resp0'!"));
    assert_eq!(message("/x%zz", "/a"), "invalid URL escape \"%zz\"");
}

#[test]
fn messages_show_the_internal_form() {
    let template = Template::parse("/a/{userId}/{resp0_id}?x={JWT.sub}", &endpoint("/{userId}"));
    let template = template.unwrap();
    assert_eq!(
        template.internal(),
        "/a/{{.UserId}}/{{.Resp0_id}}?x={{.JWT.sub}}"
    );
    assert_eq!(template.responses().collect::<Vec<_>>(), [(0, "id")]);
}

proptest! {
    #[test]
    fn arbitrary_patterns_and_values_give_one_line_of_the_same_shape(
        url in "[/a{}x?#%* é._-]{0,16}", value in "\\PC{0,12}",
    ) {
        let Some(target) = render_anything(&url, &value) else { return Ok(()) };
        let plain = render_anything(&url, "v").unwrap_or_default();
        prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()));
        let slashes = |text: &str| text.split('?').next().unwrap().matches('/').count();
        prop_assert_eq!(slashes(&target), slashes(&plain));
        prop_assert!(escape::is_well_formed(target.split('?').next().unwrap()));
    }
}

fn raw(url: &str, value: &str) -> Result<String, Failure> {
    let template = Template::parse(url, &endpoint("/a/{x}")).unwrap();
    let values = Fixture {
        params: params(&[("x", "p/q?r")]),
        responses: HashMap::from([((0, "v".to_owned()), value.to_owned())]),
        ..Fixture::default()
    };
    let pairs = [Pair {
        name: Cow::Borrowed(b"c"),
        value: Cow::Borrowed(b"1"),
    }];
    let template = template.with_raw_responses(true);
    let target = template.render(&values, &pairs);
    target.map(|target| target.to_string())
}

#[test]
fn raw_values_of_responses_pass_slashes_and_queries() {
    for (url, value, want) in [
        ("/e{resp0_v}", "/orders/12?x=1", "/e/orders/12?x=1&c=1"),
        ("/e{resp0_v}?a=1", "/o?x=1&y", "/e/o?x=1&y&a=1&c=1"),
        ("/e/{resp0_v}/t", "a b?q=a b", "/e/a%20b?q=a%20b/t&c=1"),
        ("/e/{resp0_v}", "a%2Fb", "/e/a%2Fb?c=1"),
        ("/e/{resp0_v}", "50%/\u{e9}", "/e/50%25/%C3%A9?c=1"),
        ("/e/{resp0_v}", "a#b?c", "/e/a?c=1"),
        ("/e?q={resp0_v}", "1&r=2/3", "/e?q=1&r=2/3&c=1"),
        ("/e/{x}/{resp0_v}", "a/b", "/e/p%2Fq%3Fr/a/b?c=1"),
        ("/e/pre-{resp0_v}.json", "..a/b", "/e/pre-..a/b.json?c=1"),
    ] {
        assert_eq!(raw(url, value).unwrap(), want, "{url} {value}");
    }
}

#[test]
fn raw_values_of_responses_make_no_dot_segments() {
    for (url, value) in [
        ("/e/{resp0_v}", ".."),
        ("/e/{resp0_v}", "a/../b"),
        ("/e/{resp0_v}", "a/."),
        ("/e{resp0_v}", "/../x?y"),
        ("/e/{resp0_v}", "%2e%2E/x"),
        ("/e/{resp0_v}", "a/.%2e/x"),
        ("/e/{resp0_v}", "..%2fx"),
        ("/e/{resp0_v}", "%252e%252e/x"),
        ("/e/{resp0_v}", "..\\x"),
        ("/e/.{resp0_v}", "./x"),
        ("/e/./{resp0_v}", "../x"),
    ] {
        assert!(raw(url, value).is_err(), "{url} {value}");
    }
}

#[test]
fn pairs_of_the_client_are_added_to_the_query_of_a_host() {
    let template = Template::parse("/x", &endpoint("/a/{x}")).unwrap();
    let pairs = [Pair {
        name: Cow::Borrowed(b"q"),
        value: Cow::Borrowed(b"1"),
    }];
    let none = params(&[]);
    let plain = template.render(&none, &pairs).unwrap();
    assert_eq!(plain, "/x?q=1");
    let template = template.behind_query(true);
    assert_eq!(template.render(&none, &pairs).unwrap(), "/x&q=1");
}

#[test]
fn only_values_of_earlier_responses_count_as_used() {
    for (url, number, taken) in [
        ("/a/{resp0_id}", 1, true),
        ("/a?b={resp1_id.x}", 2, true),
        ("/a/{resp0_id}", 0, false),
        ("/a/{resp1_id}", 1, false),
        ("/a/{x}/{JWT.sub}", 1, false),
        ("/a/{resp_id}", 1, false),
    ] {
        assert_eq!(Template::takes_responses(url, number), taken, "{url}");
    }
}
