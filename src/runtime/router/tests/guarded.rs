//! Routes with a guard beside public ones, and every spelling of their paths.

use super::*;

const PUBLIC: &[&str] = &[
    "/*",
    "/{a}",
    "/{a}/{b}",
    "/{a}/{b}/{c}",
    "/{a}/*",
    "/{a}/{b}/*",
    "/pub/{x}",
    "/{a}.html",
];

/// The result after all redirects.
fn settled(router: &Router<String>, path: &str) -> String {
    let mut path = path.to_owned();
    for _ in 0..5 {
        match router.route(&Method::GET, &path, None, None) {
            Match::Redirect(to) => path = to.path().to_owned(),
            other => return told(other),
        }
    }
    panic!("too many redirects: {path}")
}

#[test]
fn a_path_without_capitals_is_another_spelling_of_one_with_capitals() {
    let guarded = ["/Admin", "/API/Users", "/Secret/{id}/x", "/mixed/Case"];
    for public in ["/*", "/{any}/*"] {
        let r = router(&[&guarded[..], &[public]].concat());
        for (path, found) in [
            ("/admin", "/Admin"),
            ("//admin", "/Admin"),
            ("/admin/", "/Admin"),
            ("/api/users", "/API/Users"),
            ("/secret/aB/x", "/Secret/{id}/x id=aB"),
            ("/mixed/case", "/mixed/Case"),
        ] {
            assert_eq!(settled(&r, path), found, "{path} {public}");
        }
        for path in [
            "/admin;x",
            "/admin%20",
            "/api/users.",
            "/%2561dmin",
            "/%61dmin",
            "/mixed/%63ase",
        ] {
            assert_eq!(settled(&r, path), "404", "{path} {public}");
        }
    }
    // An encoded capital outside of ASCII, with small hex digits.
    let r = router(&["/é", "/*"]);
    assert_eq!(get(&r, "/%c3%89"), "301 /%C3%A9");
}

#[test]
fn a_parameter_does_not_match_another_spelling() {
    let r = router(&["/admin", "/adm/users", "/y/{id}.json", "/{a}", "/{a}/{b}"]);
    for (path, spelling) in [
        ("/ADMIN", "/admin"),
        ("/adm/USERS", "/adm/users"),
        ("/ADM/users", "/adm/users"),
        ("/y/A%20b.JSON", "/y/A%20b.json"),
    ] {
        assert_eq!(get(&r, path), format!("301 {spelling}"), "{path}");
    }
    for path in [
        "/%41dmin",
        "/admin%20",
        "/admin.",
        "/ADMIN;x",
        "/adm/users%20",
        "/adm/users.",
        "/adm./users",
    ] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
    assert_eq!(get(&r, "/Admins"), "/{a} a=Admins");
    assert_eq!(get(&r, "/adm/User"), "/{a}/{b} a=adm b=User");
    let silent = Options {
        redirect_fixed_path: false,
        ..Options::default()
    };
    let r = router_with(silent, &["/admin", "/{a}"]);
    assert_eq!(get(&r, "/ADMIN"), "404");
    assert_eq!(get(&r, "/x.Y%20"), "/{a} a=x.Y ");
}

#[test]
fn of_two_routes_that_differ_in_letter_case_the_exact_one_matches() {
    let routes = [
        "/Admin",
        "/admin",
        "/Team/{x}",
        "/team/{x}",
        "/F/*",
        "/f/*",
        "/Y/{id}.Js",
        "/Y/{id}.js",
        "/*",
    ];
    let r = router(&routes);
    for (path, found) in [
        ("/Admin", "/Admin"),
        ("/admin", "/admin"),
        ("/Team/A", "/Team/{x} x=A"),
        ("/team/A", "/team/{x} x=A"),
        ("/F/A", "/F/* *=A"),
        ("/f/A", "/f/* *=A"),
        ("/Y/A.Js", "/Y/{id}.Js id=A"),
        ("/Y/A.js", "/Y/{id}.js id=A"),
    ] {
        assert_eq!(get(&r, path), found, "{path}");
    }
    assert!(get(&r, "/ADMIN").starts_with("301 "));
    // Without its blank the path would match a less specific route.
    let r = router(&["/b /{x}", "/b /a", "/{x}/{y}"]);
    assert_eq!(get(&r, "/b%20/C"), "/b /{x} x=C");
    assert_eq!(get(&r, "/b%20/A"), "301 /b%20/a");
}

#[test]
fn a_segment_without_a_name_does_not_count() {
    let r = router(&["/admin", "/x/{id}", "/{a}/{b}", "/{a}/{b}/{c}"]);
    for path in [
        "/admin/;",
        "/admin/;x",
        "/admin/%3b",
        "/admin/%3Bx=1",
        "/admin/%20",
        "/admin/%20%09;x",
        "/admin/%253b",
        "/admin/%2520",
        "/;/admin",
        "/;/admin/;",
        "/%20/;/admin",
        "/x/;/7",
    ] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
    assert_eq!(get(&r, "/k/v;x"), "/{a}/{b} a=k b=v;x");
    assert_eq!(get(&r, "/k/a%20b"), "/{a}/{b} a=k b=a b");
}

fn guarded_piece() -> impl Strategy<Value = String> {
    let words = [
        "Admin",
        "api",
        "Users",
        "oÉ",
        "a.B",
        "{id}",
        "{id}.Json",
        "v2",
    ];
    prop::sample::select(words.map(str::to_owned).to_vec())
}

/// How one character is written.
fn respelt(c: char, how: u8) -> String {
    let mut utf8 = [0; 4];
    let hex = |percent: &str, utf8: &mut [u8; 4]| -> String {
        let bytes = c.encode_utf8(utf8).bytes();
        bytes.map(|byte| format!("{percent}{byte:02x}")).collect()
    };
    match how {
        0 => c.to_uppercase().collect(),
        1 => c.to_lowercase().collect(),
        2 => hex("%", &mut utf8),
        3 if c.is_ascii() => hex("%25", &mut utf8),
        4 => hex("%", &mut utf8).to_uppercase(),
        _ => c.to_string(),
    }
}

const ENDS: &[&str] = &[
    "", "", "", "", ".", "%20", ";a", "%3Ba", ".%20", "%2e", "..", "%253b", "/;", "/%20", "/%3bx",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_spelling_of_a_guarded_path_reaches_a_public_route(
        guarded in prop::collection::btree_set(prop::collection::vec(guarded_piece(), 1..4), 1..5),
        public in prop::sample::subsequence(PUBLIC.to_vec(), 1..4),
        redirects: (bool, bool),
        keep_slashes: bool,
        filler in "[k-m0-9]{1,3}",
        which in any::<prop::sample::Index>(),
        ways in prop::collection::vec(0_u8..12, 40),
        between in prop::collection::vec((0..ENDS.len(), 0..8_usize), 4),
    ) {
        let guarded: Vec<Vec<String>> = guarded.into_iter().collect();
        // Without a fixed text it would match the same paths as a public route.
        prop_assume!(guarded.iter().all(|pieces| pieces.iter().any(|piece| piece != "{id}")));
        let patterns: Vec<String> = guarded.iter().map(|p| format!("/{}", p.join("/"))).collect();
        let options = Options {
            redirect_fixed_path: redirects.0, redirect_trailing_slash: redirects.1, keep_slashes, ..Options::default()
        };
        let routes: Vec<&str> = patterns.iter().map(String::as_str).chain(public.iter().copied()).collect();
        let r = router_with(options, &routes);
        let path = &guarded[which.index(guarded.len())];
        let texts: Vec<String> = path.iter().map(|piece| piece.replace("{id}", &filler)).collect();
        let is_public = |path: &str| match r.route(&Method::GET, path, None, None) {
            Match::Found { endpoint, .. } => public.contains(&&**endpoint),
            _ => false,
        };
        let mut plain = String::new();
        for text in &texts {
            plain.push('/');
            crate::runtime::template::escape::path_segment(&mut plain, text);
        }
        // A public route may be the better match even for the exact path.
        prop_assume!(!is_public(&plain));
        let mut ways = ways.into_iter();
        let mut sent = String::new();
        for (text, (end, slashes)) in texts.iter().zip(between) {
            sent.push_str(if slashes == 0 { "//" } else { "/" });
            for c in text.chars() {
                let how = ways.next().unwrap_or(9);
                let how = if how > 4 && !c.is_ascii() { 2 } else { how };
                sent.push_str(&respelt(c, how));
            }
            sent.push_str(ENDS[end]);
        }
        for _ in 0..4 {
            prop_assert!(!is_public(&sent), "{sent} {routes:?}");
            match r.route(&Method::GET, &sent, None, None) {
                Match::Redirect(to) => sent = to.path().to_owned(),
                _ => break,
            }
        }
        prop_assert!(!matches!(r.route(&Method::GET, &sent, None, None), Match::Redirect(_)), "{sent}");
    }
}
