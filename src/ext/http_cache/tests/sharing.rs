//! Which clients share a response.

use super::*;

#[test]
fn a_response_to_credentials_is_stored_only_if_it_is_public() {
    for credentials in [("authorization", "Bearer x"), ("cookie", "sid=1")] {
        for (bench, shared) in [
            (apart(), false),
            (leaving_out(&["authorization", "cookie"]), true),
        ] {
            bench.put(&[credentials], "1", A_MINUTE);
            assert_eq!(bench.get(&[credentials]), "miss");
            let given = [("cache-control", "public, max-age=60")];
            bench.put(&[credentials], "1", &given);
            assert_eq!(bench.get(&[credentials]), "1");
            assert_eq!(bench.get(&[]), if shared { "1" } else { "miss" });
        }
    }
}

#[test]
fn an_encoded_response_is_not_stored() {
    let bench = apart();
    let given = [("cache-control", "max-age=60"), ("content-encoding", "br")];
    bench.put(&[], "1", &given);
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn headers_that_identify_clients_cannot_be_excluded_by_accident() {
    for (block, fine) in [
        (r#"{"ignore_headers": ["User-Agent"]}"#, true),
        (r#"{"ignore_headers": ["X-Role"]}"#, false),
        (r#"{"ignore_headers": ["Authorization"]}"#, false),
        (
            r#"{"ignore_headers": ["X-Role"], "share_identities": true}"#,
            true,
        ),
        (r#"{"ignore_headers": ["no header"]}"#, false),
    ] {
        let mut file = File::new(block);
        file.compile().identify(HeaderName::from_static("x-role"));
        file.backend(&super::super::BACKEND, "{}");
        assert_eq!(
            file.config_errors() == 0,
            fine,
            "{block}: {}",
            file.findings()
        );
    }
}

#[test]
fn an_anonymous_response_is_not_sent_to_clients_with_credentials_unless_public() {
    let bench = apart();
    bench.put(&[], "for all", A_MINUTE);
    assert_eq!(bench.get(&[("authorization", "Bearer x")]), "miss");
}

#[test]
fn private_responses_are_not_stored() {
    for given in [
        "private, max-age=60",
        "max-age=60, Private",
        "public, private, max-age=60",
        "private=\"set-cookie\", max-age=60",
    ] {
        for sent in [
            &[][..],
            &[("cookie", "a=b")],
            &[("authorization", "Bearer x")],
        ] {
            let bench = apart();
            bench.put(sent, "1", &[("cache-control", given)]);
            assert_eq!(bench.get(sent), "miss", "{given} {sent:?}");
        }
    }
    let bench = apart();
    bench.put(&[], "before", A_MINUTE);
    bench.put(&[], "now", &[("cache-control", "private, max-age=60")]);
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn responses_with_new_cookies_are_not_stored() {
    let bench = apart();
    bench.put(
        &[],
        "1",
        &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
    );
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn the_cookie_of_a_public_response_reaches_no_other_client() {
    let bench = apart();
    let given = [
        ("cache-control", "public, max-age=60"),
        ("set-cookie", "session=1"),
    ];
    bench.put(&[], "1", &given);
    let out = call(Method::GET, "/u", &[]);
    let key = bench.cache.key(ORIGIN, &out).unwrap();
    let Lookup::Fresh(response) = bench.cache.lookup(&key, &out.headers) else {
        panic!("it is public")
    };
    assert!(!response.headers.contains_key("set-cookie"));
}

#[test]
fn clients_share_responses_if_configured() {
    let bench = apart();
    bench.put(&[("x-user", "a")], "of a", A_MINUTE);
    assert_eq!(bench.get(&[("x-user", "a")]), "of a");
    assert_eq!(bench.get(&[("x-user", "b")]), "miss");
    assert_eq!(bench.get(&[("x-tenant", "a")]), "miss");
    assert_eq!(bench.get(&[]), "miss");
    let shared = leaving_out(&["x-user"]);
    shared.put(&[("x-user", "a")], "of a", A_MINUTE);
    assert_eq!(shared.get(&[("x-user", "b")]), "of a");
}
