//! Other spellings of a path never reach another endpoint.

use super::*;

#[test]
fn other_spellings_of_a_route_do_not_match_a_wildcard() {
    let r = router(&["/*", "/admin", "/team/*", "/users/{id}"]);
    assert_eq!(get(&r, "/x/y"), "/* *=x/y");
    assert_eq!(get(&r, "/%61dmin"), "/admin");
    for path in [
        "//admin", "/admin/", "/admin//", "///admin", "/ADMIN", "//Admin/",
    ] {
        assert_eq!(get(&r, path), "301 /admin", "{path}");
    }
    assert_eq!(get(&r, "/team"), "301 /team/");
    assert_eq!(get(&r, "//team/x"), "301 /team/x");
    assert_eq!(get(&r, "/team/x"), "/team/* *=x");
    assert_eq!(get(&r, "/team/"), "/team/* *=");
    assert_eq!(get(&r, "/Users/Ab"), "301 /users/Ab");
    for path in [
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/..;/admin",
        "/.;/admin",
        "/admin;/x",
        "/admin;a=b",
        "/admin%3Ba",
        "/admin%3b/x",
        "/ADMIN;x",
        "/;/admin",
        "/;a/admin",
        "/team;x/y",
        "//team;/y",
        "/x%2f..%2fadmin",
        "/%2fadmin",
        "/x/%2e%2e/admin",
        "/x/%252e%252e/admin",
        "/x/%25252e%25252e/admin",
        "/x%252fadmin",
        "/x/..%3B/admin",
        "/x/%5c../admin",
        "/x/%255c../admin",
        "/%2561dmin",
        "/%252561dmin",
        "/admin%3f",
        "/admin%3Fx",
        "/admin%23/x",
        "/admin%253fx",
        "/%2561dmin%2523",
        "/admin%20",
        "/admin%09%20",
        "/admin.",
        "/admin%2520",
        "/admin%20.",
        "/admin%2e",
        "/admin%2E%2e",
        "/admin%20%2e",
        "/admin%2e%20.",
        "/admin%252e",
        "/team%2e/x",
        "/users%2E/7",
        "/x/..%20/admin",
        "/team./x",
        "/team%23",
        "/x/%2e%2e%20/admin",
        "/x/.%2e%20/admin",
        "/%2e%20/admin",
        "/%25%36%31dmin",
        "/%256%31dmin",
        "/admi%25%36%65",
        "/admin%25%32%30",
        "/admin%25%32%65",
        "/admin%25%33%66x",
        "/admin%253b",
        "/admin%25253Bx/y",
        "/x/..%253b/admin",
        "/%41dmin",
        "/%55sers/7",
    ] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
    let no_slash = Options {
        redirect_trailing_slash: false,
        ..Options::default()
    };
    let r = router_with(no_slash, &["/*", "/admin", "/team/*", "/users/{id}"]);
    for path in ["/admin/", "//admin/", "/users/1/", "/team"] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
    assert_eq!(get(&r, "/x/"), "/* *=x/");
    assert_eq!(get(&r, "/team/"), "/team/* *=");
    for path in ["/Admin/", "/ADMIN/", "//aDmin/", "/Users/1/", "/Team"] {
        let got = get(&r, path);
        assert!(got == "404" || got.starts_with("301 /"), "{path}: {got}");
    }
    let neither = Options {
        redirect_trailing_slash: false,
        redirect_fixed_path: false,
        ..Options::default()
    };
    let r = router_with(neither, &["/*", "/admin", "/team/*", "/users/{id}"]);
    for path in ["/Admin/", "/ADMIN/", "//Admin/", "/Users/1/", "/Team"] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
    assert_eq!(get(&r, "/Admins/"), "/* *=Admins/");
}

#[test]
fn another_letter_case_never_matches_a_wildcard() {
    let fixed = Options {
        redirect_fixed_path: false,
        ..Options::default()
    };
    let r = router_with(fixed, &["/*", "/admin", "/team/*", "/users/{id}"]);
    for path in ["/ADMIN", "/Admin", "/Team/x", "/USERS/7", "/Admin/"] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
    assert_eq!(get(&r, "/users/AB"), "/users/{id} id=AB");
    assert_eq!(get(&r, "/team/X"), "/team/* *=X");
    assert_eq!(get(&r, "/Photos/A.png"), "/* *=Photos/A.png");
}

#[test]
fn a_path_without_another_route_keeps_its_parameters() {
    let r = router(&["/*", "/admin"]);
    assert_eq!(get(&r, "/map;v=1/x;y=2"), "/* *=map;v=1/x;y=2");
    assert_eq!(get(&r, "/a%25b/100%25"), "/* *=a%25b/100%25");
    assert_eq!(get(&r, "/C%23.pdf/what%3f"), "/* *=C%23.pdf/what%3f");
    assert_eq!(get(&r, "/%2541dmins"), "/* *=%2541dmins");
    assert_eq!(get(&r, "/a%20b%20/c."), "/* *=a%20b%20/c.");
    assert_eq!(get(&r, "/a%2e/c%2E"), "/* *=a%2e/c%2E");
    assert_eq!(get(&r, "/Admins"), "/* *=Admins");
    assert_eq!(get(&r, "/a/"), "/* *=a/");
}

#[test]
fn slashes_are_merged_before_a_wildcard_matches_the_rest() {
    let r = router(&["/*", "/img/*"]);
    assert_eq!(get(&r, "//x///y"), "/* *=x/y");
    assert_eq!(get(&r, "/img/https://h/a.png"), "/img/* *=https:/h/a.png");
    let options = Options {
        keep_slashes: true,
        ..Options::default()
    };
    let r = router_with(options, &["/img/*", "/admin", "/*"]);
    assert_eq!(get(&r, "/img/https://h/a.png"), "/img/* *=https://h/a.png");
    assert_eq!(get(&r, "//admin"), "301 /admin");
}

#[test]
fn other_spellings_of_a_route_do_not_match_a_parameter() {
    let r = router(&["/{x}", "/{x}/{y}", "/admin", "/p/{v}"]);
    assert_eq!(get(&r, "//admin"), "301 /admin");
    for path in [
        "/admin;a=b",
        "/admin;",
        "/;/admin",
        "/..;",
        "/p/..;a",
        "/p/%2e%2e%3b",
        "/admin;/x",
    ] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
    assert_eq!(get(&r, "/a;b"), "/{x} x=a;b");
    assert_eq!(get(&r, "//x"), "301 /x");
}

#[test]
fn without_redirects_other_spellings_are_not_found() {
    let options = Options {
        redirect_fixed_path: false,
        redirect_trailing_slash: false,
        ..Options::default()
    };
    let r = router_with(options, &["/*", "/admin"]);
    for path in ["//admin", "/admin;x", "/x/..;/admin"] {
        assert_eq!(get(&r, path), "404", "{path}");
    }
}
