mod guarded;
mod patterns;
mod spellings;
use http::{Method, StatusCode};
use proptest::prelude::*;

use super::build::Builder;
use super::*;
use crate::runtime::request::Params;

/// Routes whose endpoint is their own pattern, for GET unless the text begins with another method.
fn router_with(options: Options, routes: &[&str]) -> Router<String> {
    let mut builder = Router::builder(options);
    builder.health("/__health").unwrap();
    for route in routes {
        let (method, path) = if route.starts_with('/') {
            ("GET", *route)
        } else {
            route.split_once(' ').unwrap()
        };
        let method = method.parse().unwrap();
        let pattern = Pattern::parse(path, true).unwrap();
        builder.add(method, pattern, path.to_owned()).unwrap();
    }
    builder.build()
}

fn router(routes: &[&str]) -> Router<String> {
    router_with(Options::default(), routes)
}

/// The result as one line.
fn told(found: Match<'_, String>) -> String {
    match found {
        Match::Found { endpoint, params } => {
            let values: Vec<String> = params.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
            [vec![endpoint.clone()], values].concat().join(" ")
        }
        Match::BuiltIn(which) => format!("{which:?}"),
        Match::Options { allow } => format!("200 {}", allow.to_str().unwrap()),
        Match::Redirect(to) => format!("{} {}", to.status.as_u16(), to.location.to_str().unwrap()),
        Match::MethodNotAllowed { allow, .. } => format!("405 {}", allow.to_str().unwrap()),
        Match::NotFound => "404".to_owned(),
        Match::BadParam(text) => text.into_owned(),
        Match::BadTarget => "400".to_owned(),
    }
}

fn get(router: &Router<String>, target: &str) -> String {
    ask(router, &Method::GET, target)
}

fn ask(router: &Router<String>, method: &Method, target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    told(router.route(method, path, query, None))
}

#[test]
fn fixed_text_takes_precedence_over_a_parameter_and_the_search_backtracks() {
    let r = router(&[
        "/a/b/c",
        "/a/b/{y}",
        "/a/{x}/{y}",
        "/p/static",
        "/p/{id}/sub",
    ]);
    assert_eq!(get(&r, "/a/b/c"), "/a/b/c");
    assert_eq!(get(&r, "/a/b/d"), "/a/b/{y} y=d");
    assert_eq!(get(&r, "/a/x/c"), "/a/{x}/{y} x=x y=c");
    assert_eq!(get(&r, "/p/static/sub"), "/p/{id}/sub id=static");
}

#[test]
fn methods_have_separate_routes() {
    let r = router(&["POST /a/b", "/a/{x}"]);
    assert_eq!(get(&r, "/a/b"), "/a/{x} x=b");
    assert_eq!(ask(&r, &Method::POST, "/a/b"), "/a/b");
}

#[test]
fn a_parameter_may_be_empty_in_the_middle_but_not_at_the_end() {
    let r = router(&["/a/{x}/{y}"]);
    assert_eq!(get(&r, "/a//c"), "/a/{x}/{y} x= y=c");
    assert_eq!(get(&r, "/a/b/"), "404");
}

#[test]
fn an_invalid_path_matches_no_route() {
    let r = router(&["/a", "/"]);
    assert_eq!(get(&r, "/"), "/");
    for target in ["a", "", "*"] {
        assert_eq!(get(&r, target), "404");
    }
}

#[test]
fn parameters_at_one_place_may_have_different_names() {
    let r = router(&["/a/{b}", "/a/{c}/d"]);
    assert_eq!(get(&r, "/a/1"), "/a/{b} b=1");
    assert_eq!(get(&r, "/a/1/d"), "/a/{c}/d c=1");
}

#[test]
fn the_last_of_two_parameters_with_one_name_is_used() {
    let r = router(&["/a/{x}/{x}"]);
    let found = r.route(&Method::GET, "/a/1/2", None, None);
    let Match::Found { params, .. } = found else {
        panic!("not found")
    };
    assert_eq!(params.get("x"), Some("2"));
}

#[test]
fn values_are_decoded_once() {
    let r = router(&["/p/{v}"]);
    for (path, value) in [
        ("/p/a%20b", "a b"),
        ("/p/%C3%A9", "é"),
        ("/p/a+b", "a+b"),
        ("/p/a;b=c", "a;b=c"),
        ("/p/...", "..."),
    ] {
        assert_eq!(get(&r, path), format!("/p/{{v}} v={value}"));
    }
}

#[test]
fn values_that_decode_twice_are_rejected_in_the_words_of_krakend() {
    let r = router(&["/p/{v}"]);
    assert_eq!(get(&r, "/p/a%2520b"), "error: encoded url params");
    assert_eq!(get(&r, "/p/a%3Fb"), "error: encoded url params");
    assert_eq!(get(&r, "/p/a%23b"), "error: encoded url params");
    assert_eq!(get(&r, "/p/%25"), "error: invalid URL escape \"%\"");
    assert_eq!(get(&r, "/p/%25d"), "error: invalid URL escape \"%d\"");
}

#[test]
fn only_the_check_of_the_second_decoding_can_be_disabled() {
    let options = Options {
        check_params: false,
        ..Options::default()
    };
    let r = router_with(options, &["/p/{v}"]);
    assert_eq!(get(&r, "/p/a%2520b"), "/p/{v} v=a%20b");
    assert_eq!(get(&r, "/p/a%3Fb"), "/p/{v} v=a?b");
    assert_eq!(get(&r, "/p/a%00b"), "error: encoded url params");
}

#[test]
fn encoded_separators_never_change_the_split() {
    let r = router(&["/p/{v}", "/p/{v}/d", "/admin"]);
    assert_eq!(get(&r, "/p/a%2Fd"), "404");
    assert_eq!(get(&r, "/p/a%2fb"), "404");
    assert_eq!(get(&r, "/p/a%5Cb"), "error: encoded url params");
    assert_eq!(get(&r, "/p/a%0D%0Ab"), "error: encoded url params");
    assert_eq!(get(&r, "/p/%2e%2e"), "404");
    assert_eq!(get(&r, "/p/%2E"), "404");
    assert_eq!(get(&r, "/p/%2e%2e/admin"), "404");
    assert_eq!(get(&r, "/%61dmin"), "/admin");
    assert_eq!(get(&r, "/p/%zz"), "400");
    assert_eq!(get(&r, "/nowhere%2"), "400");
}

#[test]
fn a_missing_or_extra_slash_redirects() {
    let r = router(&["/noslash", "/slash/", "/u/{id}", "POST /post"]);
    assert_eq!(get(&r, "/noslash/"), "301 /noslash");
    assert_eq!(get(&r, "/slash"), "301 /slash/");
    assert_eq!(get(&r, "/noslash/?a=1&b=%20"), "301 /noslash?a=1&b=%20");
    assert_eq!(get(&r, "/u/1/"), "301 /u/1");
    assert_eq!(get(&r, "/u/1//"), "301 /u/1");
    assert_eq!(ask(&r, &Method::POST, "/post/"), "307 /post");
    assert_eq!(ask(&r, &Method::GET, "/post/"), "404");
}

#[test]
fn another_letter_case_redirects_to_the_registered_spelling() {
    let r = router(&["/Hello/World", "/x/{id}/Y"]);
    assert_eq!(get(&r, "/HELLO/WORLD?x=1"), "301 /Hello/World?x=1");
    assert_eq!(get(&r, "/hello//./World/"), "301 /Hello/World");
    assert_eq!(get(&r, "/X/aB/y"), "301 /x/aB/Y");
    assert_eq!(get(&r, "/a/../hello/world"), "301 /Hello/World");
    // ſ and ı, whose upper case is that of s and i, İ, whose lower case is that of i in Java, and the Kelvin sign.
    let r = router(&["/*", "/kiss"]);
    for path in ["/kis%C5%BF", "/k%C4%B1ss", "/K%C4%B0SS", "/%E2%84%AAiss"] {
        assert_eq!(get(&r, path), "301 /kiss", "{path}");
    }
}

#[test]
fn redirects_can_be_disabled_one_by_one() {
    let no_slash = Options {
        redirect_trailing_slash: false,
        ..Options::default()
    };
    let r = router_with(no_slash, &["/obj"]);
    assert_eq!(get(&r, "/obj/"), "404");
    assert_eq!(get(&r, "/OBJ"), "301 /obj");
    let no_fix = Options {
        redirect_fixed_path: false,
        ..Options::default()
    };
    let r = router_with(no_fix, &["/a/b"]);
    for path in ["/A/B", "//a/b", "/a//b", "/a/./b"] {
        assert_eq!(get(&r, path), "404");
    }
    assert_eq!(get(&r, "/a/b/"), "301 /a/b");
}

#[test]
fn a_redirect_never_leaves_the_gateway() {
    let r = router(&["/{a}/{b}", "/{a}/{b}/{c}/"]);
    assert_eq!(get(&r, "//evil.example/"), "404");
    assert_eq!(get(&r, "/\\evil.example/x/y"), "404");
    let Match::Redirect(to) = r.route(&Method::GET, "/a/b/", Some("\"><x>"), None) else {
        panic!("no redirect")
    };
    assert_eq!(to.location, "/a/b?%22%3E%3Cx%3E");
    assert_eq!(to.status, StatusCode::MOVED_PERMANENTLY);
    let page = "<a href=\"/a/b?%22%3E%3Cx%3E\">Moved Permanently</a>.\n\n";
    assert_eq!(to.body, page);
}

#[test]
fn a_trusted_prefix_is_prepended_to_the_slash_redirect() {
    let r = router(&["/obj"]);
    let at = |prefix| told(r.route(&Method::GET, "/obj/", Some("a=1"), Some(prefix)));
    assert_eq!(at("/pre"), "301 /pre/obj?a=1");
    assert_eq!(at("//evil.example"), "301 /evilexample/obj?a=1");
    assert_eq!(at(""), "301 /obj?a=1");
}

#[test]
fn other_methods_are_listed_in_the_order_of_registration() {
    let r = router(&["/m", "DELETE /m", "POST /m", "PUT /other", "POST /only"]);
    assert_eq!(ask(&r, &Method::PUT, "/m"), "405 GET, DELETE, POST");
    assert_eq!(ask(&r, &Method::HEAD, "/m"), "405 GET, DELETE, POST");
    assert_eq!(ask(&r, &Method::GET, "/only"), "405 POST");
    assert_eq!(ask(&r, &Method::HEAD, "/__health"), "405 GET");
    let silent = Options {
        method_not_allowed: false,
        ..Options::default()
    };
    assert_eq!(
        ask(&router_with(silent, &["/m"]), &Method::PUT, "/m"),
        "404"
    );
}

#[test]
fn extra_slashes_can_be_collapsed_instead_of_redirected() {
    let options = Options {
        remove_extra_slash: true,
        ..Options::default()
    };
    let r = router_with(options, &["/a/{x}"]);
    assert_eq!(get(&r, "//a//1"), "/a/{x} x=1");
    assert_eq!(get(&r, "/a/./1"), "301 /a/1");
}

#[test]
fn options_requests_are_handled_if_enabled() {
    let options = Options {
        auto_options: true,
        ..Options::default()
    };
    let r = router_with(
        options,
        &["POST /m", "/m", "PUT /n/{id}", "DELETE /n/{other}"],
    );
    assert_eq!(ask(&r, &Method::OPTIONS, "/m"), "200 GET, POST");
    assert_eq!(ask(&r, &Method::OPTIONS, "/n/1"), "200 DELETE, PUT");
    assert_eq!(ask(&r, &Method::OPTIONS, "/nope"), "404");
    assert_eq!(ask(&r, &Method::OPTIONS, "/__health"), "405 GET");
}

#[test]
fn wildcards_come_last_and_keep_the_rest_unchanged() {
    let r = router(&["/f/*", "/f/a/{b}", "/f/a"]);
    assert_eq!(get(&r, "/f/x/y%20z"), "/f/* *=x/y%20z");
    assert_eq!(get(&r, "/f/"), "/f/* *=");
    assert_eq!(get(&r, "/f"), "301 /f/");
    assert_eq!(get(&r, "/f/a"), "/f/a");
    assert_eq!(get(&r, "/f/a/1"), "/f/a/{b} b=1");
    assert_eq!(get(&r, "/f/a/1/2"), "/f/* *=a/1/2");
    for path in ["/f/x/%2e%2e/y", "/f/a%2Fb", "/f/a%00", "/f/a%5cb", "/f/%2e"] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
}

/// The target that a backend receives for the parameter or wildcard of this path.
fn sent(path: &str) -> Option<String> {
    let endpoint = Pattern::parse("/p/{v}", true).unwrap();
    let template = crate::runtime::template::Template::parse("/x/{v}?q={v}", &endpoint).unwrap();
    match router(&["/p/{v}"]).route(&Method::GET, path, None, None) {
        Match::Found { params, .. } => Some(template.render(&params, &[]).unwrap().to_string()),
        _ => None,
    }
}

#[test]
fn a_parameter_that_is_not_utf8_is_passed_on_byte_by_byte() {
    for raw in [
        "caf%E9",
        "%FF",
        "%E2%82",
        "a%F4%8F%BA%A9b",
        "%C3%A9%E9",
        "%E9%2B",
    ] {
        let query = raw;
        let path = raw.replace("%2B", "+");
        let expected = format!("/x/{path}?q={query}");
        assert_eq!(sent(&format!("/p/{raw}")), Some(expected), "{raw}");
    }
    let r = router(&["/f/*", "/p/{v}"]);
    assert_eq!(get(&r, "/f/caf%E9/x"), "/f/* *=caf%E9/x");
    // Overlong forms of a dot, a slash and a backslash.
    for bad in [
        "%C0%AE%C0%AE",
        "a%C0%AFb",
        "%E0%80%AF",
        "%F0%80%80%AF",
        "%C1%9C",
    ] {
        assert_eq!(get(&r, &format!("/p/{bad}")), "404", "{bad}");
        assert_eq!(get(&r, &format!("/f/{bad}")), "404", "{bad}");
    }
}

#[test]
fn debug_and_echo_respond_to_every_method() {
    let mut builder: Builder<String> = Router::builder(Options::default());
    builder.health("/__health").unwrap();
    builder.any(BuiltIn::Debug).unwrap();
    builder.any(BuiltIn::Echo).unwrap();
    builder
        .add(
            Method::POST,
            Pattern::parse("/m", true).unwrap(),
            "/m".into(),
        )
        .unwrap();
    let r = builder.build();
    assert_eq!(ask(&r, &Method::PATCH, "/__debug/a/b"), "Debug");
    assert_eq!(get(&r, "/__debug"), "301 /__debug/");
    assert_eq!(get(&r, "/__echo/"), "Echo");
    assert_eq!(get(&r, "/__health"), "Health");
}
