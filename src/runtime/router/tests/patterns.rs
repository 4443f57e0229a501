//! Patterns, and the paths that they match.

use super::*;
use crate::runtime::router::pattern::PatternError;

#[test]
fn a_question_mark_after_a_parameter_is_not_part_of_the_path() {
    let r = router(&["/a/{x}?b=1"]);
    assert_eq!(get(&r, "/a/v"), "/a/{x}?b=1 x=v");
    assert_eq!(get(&r, "/a/v?b=2"), "/a/{x}?b=1 x=v");
    let pattern = Pattern::parse("/a/{x}?b=1", true).unwrap();
    assert_eq!(&**pattern.as_str(), "/a/{x}");
}

#[test]
fn text_around_a_parameter_is_matched() {
    let r = router(&["/y/{a}.json", "/y/{a}.tar.json", "/y/{a}"]);
    assert_eq!(get(&r, "/y/z.json"), "/y/{a}.json a=z");
    assert_eq!(get(&r, "/y/z.tar.json"), "/y/{a}.tar.json a=z");
    assert_eq!(get(&r, "/y/.json"), "/y/{a} a=.json");
    assert_eq!(get(&r, "/y/z%2F.json"), "404");
}

#[test]
fn routes_that_match_the_same_paths_are_rejected() {
    let mut builder: Builder<()> = Router::builder(Options::default());
    let mut add = |path| builder.add(Method::GET, Pattern::parse(path, true).unwrap(), ());
    add("/a").unwrap();
    add("/a/").unwrap();
    add("/a/{b}").unwrap();
    assert!(matches!(add("//a"), Err(RouteError::Duplicate { .. })));
    let error = add("/a/{c}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "GET /a/{c} matches the same paths as /a/{b}"
    );
}

#[test]
fn patterns_are_parsed_as_in_krakend() {
    let text = |path, rest| Pattern::parse(path, rest).map(|p| p.as_str().to_string());
    for (path, want) in [
        ("a", "/a"),
        ("", "/"),
        ("//a///b/", "/a/b/"),
        ("/a/./b/../c", "/a/c"),
        ("/x{a}", "/x{a}"),
        ("/{ a }/{}", "/{ a }/{}"),
        ("/a?b", "/a?b"),
        ("/__stats/__debugger", "/__stats/__debugger"),
        ("/*", "/*"),
        ("/a/*", "/a/*"),
    ] {
        assert_eq!(text(path, true).unwrap(), want);
    }
    for path in ["/a*", "/a/*/b", "/**"] {
        assert_eq!(text(path, true), Err(PatternError::Wildcard));
    }
    for path in ["/__health", "/x/__debug", "/__echo/a/b", "/x/../__debug"] {
        assert_eq!(text(path, true), Err(PatternError::Reserved));
    }
    let two = Pattern::parse("/{a}{b}", true);
    assert!(matches!(two, Err(PatternError::TwoParams(_))));
    let slash = Pattern::parse("/x{a/b}", false);
    assert!(matches!(slash, Err(PatternError::SlashInName(_))));
}

#[test]
fn braces_are_parameters_according_to_the_selected_syntax() {
    let names = |path, rest| -> Vec<String> {
        let pattern = Pattern::parse(path, rest).unwrap();
        pattern.params().map(|name| name.to_string()).collect()
    };
    assert_eq!(names("/x{a}", true), [""; 0]);
    assert_eq!(names("/x{a}", false), ["a"]);
    assert_eq!(names("/{a.b:c}", true), [""; 0]);
    assert_eq!(names("/{a.b:c}", false), ["a.b:c"]);
    let pattern = Pattern::parse("/{my-id}/r-{x_2}.json", false).unwrap();
    assert_eq!(pattern.colon_form(), "/:my-id/r-:x_2.json");
}

/// A segment of a pattern, from few characters so that patterns overlap.
pub(super) fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]{1,2}",
        Just("{x}".to_owned()),
        Just("é ".to_owned()),
        Just("{x}.js".to_owned()),
    ]
}

pub(super) fn path_of(pieces: &[String], filler: &str) -> String {
    pieces
        .iter()
        .map(|piece| {
            format!(
                "/{}",
                piece.replace("{x}", filler).replace("é ", "%C3%A9%20")
            )
        })
        .collect()
}

/// How well a pattern matches, segment by segment. Greater is better.
pub(super) fn fit(pieces: &[String], path: &[&str]) -> Option<Vec<u8>> {
    (pieces.len() == path.len()).then_some(())?;
    let one = |(piece, text): (&String, &&str)| match piece.as_str() {
        "{x}" => Some(1),
        "{x}.js" => (text.len() > 3 && text.ends_with(".js")).then_some(2),
        fixed => (fixed == *text).then_some(3),
    };
    pieces.iter().zip(path).map(one).collect()
}

proptest! {
    #[test]
    fn a_route_built_from_a_pattern_matches_that_pattern(
        pieces in prop::collection::vec(piece(), 1..6), filler in "[a-z0-9 é%.-]{1,8}",
    ) {
        prop_assume!(filler != "." && filler != "..");
        let options = Options { check_params: false, ..Options::default() };
        let pattern: String = pieces.iter().map(|piece| format!("/{piece}")).collect();
        let r = router_with(options, &[&pattern]);
        let mut sent = String::new();
        crate::runtime::template::escape::path_segment(&mut sent, &filler);
        match r.route(&Method::GET, &path_of(&pieces, &sent), None, None) {
            Match::Found { params: Params(params), .. } => {
                prop_assert!(params.iter().filter(|(n, _)| !n.is_empty()).all(|(_, v)| *v == filler));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn the_best_matching_pattern_is_found(
        patterns in prop::collection::btree_set(prop::collection::vec(piece(), 1..4), 1..12),
        path in prop::collection::vec(prop_oneof!["[ab]{1,2}", "[ab]{1,2}\\.js", Just("é ".to_owned())], 1..4),
    ) {
        let patterns: Vec<Vec<String>> = patterns.into_iter().collect();
        let texts: Vec<String> = patterns.iter().map(|p| p.iter().map(|s| format!("/{s}")).collect()).collect();
        let options = Options { redirect_fixed_path: false, redirect_trailing_slash: false, ..Options::default() };
        let r = router_with(options, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let best = patterns.iter().zip(&texts)
            .filter_map(|(p, text)| fit(p, &segments).map(|fit| (fit, text)))
            .max();
        let found = match r.route(&Method::GET, &path_of(&path, ""), None, None) {
            Match::Found { endpoint, .. } => Some(endpoint.clone()),
            _ => None,
        };
        prop_assert_eq!(found, best.map(|(_, text)| text.clone()));
    }

    #[test]
    fn arbitrary_paths_and_patterns_do_not_panic(path in "/\\PC{0,40}", text in "[/{}.*a:_%é-]{0,20}", rest: bool) {
        if let Some(location) = route_anything(&path) {
            prop_assert!(!location.as_bytes().starts_with(b"//"));
        }
        if let Ok(pattern) = Pattern::parse(&text, rest) {
            let again = Pattern::parse(pattern.as_str(), rest);
            prop_assert_eq!(again, Ok(pattern));
        }
    }
}
