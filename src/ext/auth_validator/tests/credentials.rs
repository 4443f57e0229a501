//! Where the token of a request is, and that no second one is forwarded.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, Method};

use super::{ask, block, compiled, ed, fields, key_file, verdict};
use crate::ext::testing::head;
use crate::runtime::step::EndpointStep;

#[tokio::test]
async fn one_request_has_one_credential() {
    let keys = key_file();
    let steps = compiled(&block(&keys, ""));
    let good = ed("{}");
    let cookie = format!("a=b; access_token={good}; c=d");
    let quoted = format!("access_token=\"{good}\"");
    let twice = format!("access_token={good}; access_token=x");
    let twice_the_same = format!("access_token={good}; access_token={good}");
    for (sent, expected) in [
        (fields(&[(AUTHORIZATION, &good)]), None),
        (fields(&[(COOKIE, &cookie)]), None),
        (fields(&[(COOKIE, &quoted)]), None),
        (fields(&[(COOKIE, &twice_the_same)]), None),
        (fields(&[(AUTHORIZATION, ""), (COOKIE, &cookie)]), None),
        (fields(&[(COOKIE, "access_token=")]), Some((401, "missing"))),
        (
            fields(&[(COOKIE, &twice)]),
            Some((401, "ambiguous_credentials")),
        ),
        (
            fields(&[(AUTHORIZATION, "Basic x"), (COOKIE, &cookie)]),
            Some((401, "missing")),
        ),
        (
            fields(&[(AUTHORIZATION, &good), (AUTHORIZATION, &good)]),
            Some((401, "ambiguous_credentials")),
        ),
        (
            fields(&[(AUTHORIZATION, "Bearer"), (COOKIE, &cookie)]),
            Some((401, "malformed")),
        ),
    ] {
        assert_eq!(verdict(&steps, &sent).await, expected, "{sent:?}");
    }
}

/// Steps, the headers of a request, and the `Authorization` and `Cookie` that are passed on.
type Case<'c> = (
    &'c [Box<dyn EndpointStep>],
    Vec<(HeaderName, &'c str)>,
    &'c str,
    &'c str,
);

#[tokio::test]
async fn no_second_token_is_forwarded_with_the_verified_one() {
    let keys = key_file();
    let usual = compiled(&block(&keys, ""));
    let other_header = compiled(&block(&keys, r#", "auth_header_name": "X-Token""#));
    let optional = compiled(&block(
        &keys,
        r#", "auth_header_name": "X-Token", "optional": true"#,
    ));
    let token = ed(r#"{"sub":"alice"}"#);
    let bearer = format!("Bearer {token}");
    let x_token = HeaderName::from_static("x-token");
    let own_cookie = format!("a=1; access_token={token}; b=2");
    let behind_tab = "bearer\tforged.by.me";
    let cases: [Case<'_>; 16] = [
        (
            &other_header,
            vec![(x_token.clone(), &token), (AUTHORIZATION, behind_tab)],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "JWT eyJhbGciOiJub25lIn0.e30."),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "Token token=\"eyJhbGciOiJub25lIn0.e30.\""),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "Basic ZXlKZXlKOmV5SmV5Sg=="),
            ],
            "Basic ZXlKZXlKOmV5SmV5Sg==",
            "",
        ),
        (
            &usual,
            vec![
                (AUTHORIZATION, &bearer),
                (COOKIE, "a=1; access_token =forged; b=2"),
            ],
            &bearer,
            "a=1; b=2",
        ),
        (
            &usual,
            vec![
                (AUTHORIZATION, &bearer),
                (COOKIE, "c=1; a=1, access_token=forged; b=2"),
            ],
            &bearer,
            "c=1; b=2",
        ),
        (
            &usual,
            vec![
                (AUTHORIZATION, &bearer),
                (COOKIE, "a=1; \"access_token\"=forged; b=2,3"),
            ],
            &bearer,
            "a=1; b=2,3",
        ),
        (
            &usual,
            vec![
                (AUTHORIZATION, &bearer),
                (COOKIE, "a=1, \"access_token\" = forged"),
            ],
            &bearer,
            "",
        ),
        (
            &usual,
            vec![
                (AUTHORIZATION, &bearer),
                (COOKIE, "a=1; access_token=forged; b=2"),
                (COOKIE, "access_token=forged"),
            ],
            &bearer,
            "a=1; b=2",
        ),
        (
            &usual,
            vec![(AUTHORIZATION, &bearer), (COOKIE, &own_cookie)],
            &bearer,
            &own_cookie,
        ),
        (&usual, vec![(COOKIE, &own_cookie)], "", &own_cookie),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "bearer forged"),
                (COOKIE, "access_token=\"forged\""),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![
                (x_token.clone(), &token),
                (AUTHORIZATION, "eyJhbGciOiJub25lIn0.e30."),
            ],
            "",
            "",
        ),
        (
            &other_header,
            vec![(x_token.clone(), &token), (AUTHORIZATION, "Basic YTpi")],
            "Basic YTpi",
            "",
        ),
        (
            &other_header,
            vec![(x_token.clone(), &token), (AUTHORIZATION, &bearer)],
            &bearer,
            "",
        ),
        (&optional, vec![(AUTHORIZATION, "Bearer forged")], "", ""),
    ];
    for (steps, sent, authorization, cookie) in cases {
        let sent = fields(&sent);
        let (rejected, notes) = ask(steps, &sent).await;
        assert!(rejected.is_none(), "{sent:?}");
        let request = head(&Method::GET, "/x", &sent);
        for (name, want) in [(AUTHORIZATION, authorization), (COOKIE, cookie)] {
            let seen: Vec<&str> = notes
                .header_values(&request, &name)
                .map(|value| value.to_str().unwrap())
                .collect();
            assert_eq!(seen.join("; "), want, "{name} of {sent:?}");
        }
    }
}

/// Backends that expect the default name, or that do not compare names byte by byte, find no other token.
#[tokio::test]
async fn no_spelling_of_a_token_cookie_is_forwarded_unverified() {
    let keys = key_file();
    let steps = compiled(&block(&keys, r#", "cookie_key": "my_sid""#));
    let token = ed(r#"{"sub":"alice"}"#);
    let verified = format!("my_sid={token}");
    let bearer = format!("Bearer {token}");
    for other in [
        "access_token=forged",
        "Access_Token=forged",
        "access.token=forged",
        "access%5Ftoken=forged",
        "access_token[]=forged",
        "\"access_token\"=\"forged\"",
        "access_token",
        "MY_SID=forged",
        "my.sid=forged",
    ] {
        for sent in [
            fields(&[(COOKIE, &format!("a=1; {verified}; {other}; b=2"))]),
            fields(&[
                (AUTHORIZATION, &bearer),
                (COOKIE, &format!("a=1; {other}; b=2")),
            ]),
        ] {
            let left = cookies(&steps, &sent).await;
            let left = left.replace(&format!("{verified}; "), "");
            assert_eq!(left, "a=1; b=2", "{other}");
        }
    }
    // The same token under another name is verified; other cookies stay.
    let same = format!("{verified}; access_token={token}; access_tokens=x; sid=1");
    let sent = fields(&[(COOKIE, &same)]);
    assert_eq!(cookies(&steps, &sent).await, same);
}

/// The cookies that are passed on.
async fn cookies(steps: &[Box<dyn EndpointStep>], sent: &HeaderMap) -> String {
    let (rejected, notes) = ask(steps, sent).await;
    assert!(rejected.is_none(), "{sent:?}");
    let request = head(&Method::GET, "/x", sent);
    let values = notes.header_values(&request, &COOKIE);
    let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
    values.join("; ")
}
