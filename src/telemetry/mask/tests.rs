//! What is masked, and what is not.

use proptest::prelude::*;

use super::*;

#[test]
fn headers_are_shown_without_credentials() {
    for (name, value, shown) in [
        ("x-a", "1", "1"),
        ("authorization", "Basic eDp5", "***"),
        ("proxy-authorization", "Basic eDp5", "***"),
        ("x-api-key", "k", "***"),
        ("fastly-key", "k", "***"),
        ("x-mashape-key", "k", "***"),
        ("dpop", "proof", "***"),
        ("cookie", "a=b", "***"),
        ("x-a", "Bearer opaque", "***"),
        ("x-a", r#"{"a": 1, "token": "s"}"#, "***"),
        (
            "sec-ch-ua",
            r#""Chromium";v="1", "Not)A;Brand";v="8""#,
            r#""Chromium";v="1", "Not)A;Brand";v="8""#,
        ),
        (
            "sec-websocket-protocol",
            "graphql-transport-ws, v12.stomp",
            "graphql-transport-ws, v12.stomp",
        ),
        (
            "sec-websocket-protocol",
            "chat,bearer.opaque",
            "chat, bearer.***",
        ),
        (
            "sec-websocket-protocol",
            "Access_Token, opaque",
            "Access_Token, ***",
        ),
        (
            "sec-websocket-protocol",
            "base64url.bearer.authorization.k8s.io.b3BhcXVl, base64.binary.k8s.io",
            "base64url.bearer.authorization.***, base64.binary.k8s.io",
        ),
        (
            "sec-websocket-protocol",
            "header-ZXlKb2IzTjBjd0xKNg12",
            "***",
        ),
        ("referer", "https://a/?x=1", "https://a/?x=1"),
        (
            "referer",
            "https://a/?access_token=s&x=1",
            "https://a/?access_token=***&x=1",
        ),
        ("x-original-url", "https://u:s@a/", "https://u:***@a/"),
        ("user-agent", "x https://u:s@h/ y", "x https://u:***@h/ y"),
        ("user-agent", "app/1 (Bearer s) z", "app/1 (Bearer *** z"),
        ("user-agent", "app%3Faccess_token%3Ds", "***"),
        ("x-a", "b (+//b?jwt=s; x)", "b (+//b?jwt=***; x)"),
        (
            "user-agent",
            "Mozilla/5.0 (compatible; Visual Basic; b@b.com; +http://b.com/bot.html)",
            "Mozilla/5.0 (compatible; Visual Basic; b@b.com; +http://b.com/bot.html)",
        ),
    ] {
        assert_eq!(shown_header(name, value), shown, "{name}: {value}");
    }
}

#[test]
fn credentials_in_paths_are_masked() {
    for (path, shown) in [
        ("/a%3Faccess_token=x/b", "/a%3F***/b"),
        ("/a%3faccess_token%3Dx", "/a%3f***"),
        ("/a;sid=x", "/a;***"),
        ("//user:s@h/x", "//***/x"),
        ("/proxy/https://u:s@h/x", "/proxy/https://***/x"),
        ("/proxy/https:/u:s@h/x", "/proxy/https:/***/x"),
        ("/proxy/https%3A%2F%2Fu%3As%40h%2Fx", "/proxy/***"),
        ("/mail/ada@example.com", "/mail/ada@example.com"),
        ("/@scope/name", "/@scope/name"),
        ("/ada@example.com", "/ada@example.com"),
        ("/verify/eyJhbGciOiJIUzI1NiJ9.e30.x", "/verify/***"),
        ("/a=b/caf%C3%A9;v=1/token", "/a=b/caf%C3%A9;v=1/token"),
    ] {
        assert_eq!(masked_path(path), shown);
    }
}

#[test]
fn credentials_in_queries_are_masked() {
    for (query, shown) in [
        ("a=1&token=x&b", "a=1&token=***&b"),
        ("ACCESS_token=x&jw%74=y", "ACCESS_token=***&jw%74=***"),
        ("t%256Fken=x&page%2532=2", "t%256Fken=***&page%2532=2"),
        ("token=&page=2", "token=&page=2"),
        (
            "PHPSESSID=a&jsessionid=b&ASPSESSIONIDQQABCDEF=c&ASP.NET_SessionId=d",
            "PHPSESSID=***&jsessionid=***&ASPSESSIONIDQQABCDEF=***&ASP.NET_SessionId=***",
        ),
        (
            "sesskey=a&connect.sid=b&side=c&phpinfo=d",
            "sesskey=***&connect.sid=***&side=c&phpinfo=d",
        ),
        (
            "idToken=a&client-secret=b&X-Amz-Signature=c&token[0]=d&api.key=e",
            "idToken=***&client-secret=***&X-Amz-Signature=***&token[0]=***&api.key=***",
        ),
        (
            "code_verifier=a&SAMLResponse=b&SAMLart=c&otp=d&ticket=e&pin=f&passcode=g",
            "code_verifier=***&SAMLResponse=***&SAMLart=***&otp=***&ticket=***&pin=***&passcode=***",
        ),
        ("spin=1&tickets=2", "spin=1&tickets=***"),
        ("a=1;token=x;b=2", "a=1;token=***;b=2"),
        ("x=https://u:s@h/&y=//u:s@h", "x=***&y=***"),
        ("x=https%3A%2F%2Fghp_s%40h%2F&y=2", "x=***&y=2"),
        ("x=https://u:***@h/&y=2", "x=https://u:***@h/&y=2"),
        (
            "mail=a@b.c&x=https://h/@user",
            "mail=a@b.c&x=https://h/@user",
        ),
        (
            r#"json={"token":"s"}&y=%7B%22a%22:%7B%22api_key%22%20:%221%22%7D%7D"#,
            "json=***&y=***",
        ),
        (
            r#"json={"page":"token","a":[1]}"#,
            r#"json={"page":"token","a":[1]}"#,
        ),
        ("AWSAccessKeyId=a&dpop=b", "AWSAccessKeyId=***&dpop=***"),
        ("a=1?access_token=x", "a=1?access_token=***"),
        (
            "monkey=1&keys=2&tokens=3&author=4",
            "monkey=1&keys=2&tokens=***&author=4",
        ),
        ("q=eyJhbGciOiJIUzI1NiJ9.e30.x&z=1", "q=***&z=1"),
        ("q=Bearer%20eyJhbGciOiJIUzI1NiJ9.e30.x", "q=***"),
        ("q=bearer+opaque&z=1&y=Bearer%20opaque", "q=***&z=1&y=***"),
        ("q=bearers", "q=bearers"),
        ("a&eyJhbGciOiJIUzI1NiJ9.e30.x&b", "a&***&b"),
        ("q=%65yJhbGciOiJIUzI1NiJ9.e30.x", "q=***"),
        (
            "next=https%3A%2F%2Fh%2Fcb%3Faccess_token%3Dx&a=%252Fcb%253Fcode%253Dx",
            "next=***&a=***",
        ),
        (
            "x=access_token=y&access_token%3Dy&access_token%3Dy=",
            "x=***&***&***",
        ),
        (
            "next=%2Fa%3Fpage%3D2&b64=Zm9vCg==&c=d=e",
            "next=%2Fa%3Fpage%3D2&b64=Zm9vCg==&c=d=e",
        ),
        (
            "id_token_hint=a&license_key=b&appid=c&myappid=d",
            "id_token_hint=***&license_key=***&appid=***&myappid=d",
        ),
        ("", ""),
        ("&&=&a", "&&=&a"),
    ] {
        assert_eq!(masked_query(query), shown);
    }
}

#[test]
fn plurals_and_rare_names_are_masked() {
    for name in [
        "credentials",
        "tokens",
        "Access-Tokens[1]",
        "user_code",
        "cookie",
        "cookies",
        "sign",
        "pw",
        "user_pwd",
        "secret_id",
    ] {
        assert_eq!(masked_query(&format!("{name}=x")), format!("{name}=***"));
    }
    for name in ["design", "address", "keys", "assigns", "sacred"] {
        assert_eq!(masked_query(&format!("{name}=x")), format!("{name}=x"));
    }
}

#[test]
fn a_configured_parameter_is_masked_from_then_on() {
    assert_eq!(masked_query("Licence-No=x"), "Licence-No=x");
    add_secret_name("licence-no");
    assert_eq!(
        masked_query("Licence-No=x&licence%2Dno=y"),
        "Licence-No=***&licence%2Dno=***"
    );
}

#[test]
fn credentials_in_urls_are_masked() {
    for (url, shown) in [
        ("http://a/b?c=1&jwt=x", "http://a/b?c=1&jwt=***"),
        ("http://a/token=x", "http://a/token=x"),
        ("http://u:p@a:1/b", "http://u:***@a:1/b"),
        ("http://u:p@q@a?key=1", "http://u:***@a?key=***"),
        ("https://ghp_x@a/b", "https://***@a/b"),
        ("u:p@a", "u:***@a"),
        ("http://a/b@c", "http://a/b@c"),
        ("http://a?mail=b@c", "http://a?mail=b@c"),
    ] {
        assert_eq!(masked(url), shown);
    }
    assert_eq!(
        without_values("http://u:p@a/b?c=1&d&e=f"),
        "http://u:***@a/b?c=***&d&e=***"
    );
}

#[test]
fn lines_of_libraries_show_no_value() {
    for (line, shown) in [
        ("nothing to hide", "nothing to hide"),
        (
            "status: 0, GET /n?access_token=S1&b=S2, Host: gw",
            "status: 0, GET /n?access_token=***&b=***, Host: gw",
        ),
        ("uri: \"/n?a=S1\" x", "uri: \"/n?a=*** x"),
        ("at http://u:S1@h/p: gone", "at http://u:***@h/p: gone"),
        (
            "\"authorization\": \"Bearer S1\" end",
            "\"authorization\": \"Bearer *** end",
        ),
        ("BASIC S1", "BASIC ***"),
    ] {
        assert_eq!(scrubbed(line), shown);
    }
}

proptest! {
    #[test]
    fn a_secret_is_not_shown_in_base64_or_hexadecimal(
        secret in "[ -~]{8,40}", before in "[ -~]{0,9}", after in "[ -~]{0,9}",
    ) {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE};

        let joined = format!("{before}{secret}{after}");
        for text in [STANDARD.encode(&joined), URL_SAFE.encode(&joined), hex::encode(&joined), joined] {
            prop_assert_eq!(shown(&[&secret], &text), None);
        }
    }

    #[test]
    fn masking_does_not_panic_or_show_a_token(
        before in any::<String>(), name in "(access_token|api-key|jwt)", value in "[a-z]{12}", after in any::<String>(),
    ) {
        let query = format!("{before}&{name}={value}&{after}");
        prop_assert!(!masked_query(&query).contains(&value));
        prop_assert!(!masked_text(&query).contains(&value));
        let line = format!("{before} /x?{name}={value} {after}");
        prop_assert!(!scrubbed(&line).contains(&value));
        let _ = masked(&before);
    }
}

#[test]
fn secret_members_in_our_sentences_are_masked() {
    for (text, shown) in [
        (
            r#"said {"access_token":"S", "a":1}"#,
            r#"said {"access_token":"***", "a":1}"#,
        ),
        (r#"{"pin": 1234, "page": 2}"#, r#"{"pin": ***, "page": 2}"#),
        (
            r#"{"session":{"a":["}",{}]},"b":{}}"#,
            r#"{"session":***,"b":{}}"#,
        ),
        (r#"{"tokens":["a"],"jwt":["#, r#"{"tokens":***,"jwt":***"#),
        (
            r#"said "{\"client_secret\":\"S\\\"S\",\"b\":\"c\"}" end"#,
            r#"said "{\"client_secret\":\"***\",\"b\":\"c\"}" end"#,
        ),
        (
            r#"said "{\"client_secret\":\"S" end"#,
            r#"said "{\"client_secret\":\"***" end"#,
        ),
        (
            r#"{"password":"S\\","a":"b"}"#,
            r#"{"password":"***","a":"b"}"#,
        ),
        (r#"{"\u0070assword":"S\"S"#, r#"{"\u0070assword":"***"#),
        (
            r#"{"token":null,"key":true,"secret":""}"#,
            r#"{"token":null,"key":true,"secret":""}"#,
        ),
        (r#""key": no value"#, r#""key": no value"#),
        (
            r#"{"code": 400, "a": {"code": 4001}}"#,
            r#"{"code": 400, "a": {"code": ***}}"#,
        ),
        (r#"at %7B%22token%22:%22S%22%7D end"#, "at *** end"),
    ] {
        assert_eq!(masked_text(text), shown, "{text}");
    }
}

#[test]
fn texts_of_other_servers_are_masked_in_other_notations() {
    for (text, shown) in [
        ("{'token': 'S', b: 1}", "{'token': '***', b: 1}"),
        ("client_secret: S\nb: c", "client_secret: ***\nb: c"),
        ("Authorization: Basic S\nb: c", "Authorization: ***\nb: c"),
        (r#"error="x", token="S""#, r#"error="x", token="***""#),
        ("<a><ns:jwt>S</ns:jwt></a>", "<a><ns:jwt>***</ns:jwt></a>"),
        ("{token:S,b:c}", "{token:***,b:c}"),
        (
            "bad credentials for the client",
            "bad credentials for the client",
        ),
        ("sent Bearer S", "sent Bearer ***"),
    ] {
        assert_eq!(masked_text_of_server(text), shown, "{text}");
    }
}

/// The text of a server that got these secrets.
fn shown(secrets: &[&str], text: &str) -> Option<String> {
    let mut known = KnownSecrets::default();
    secrets.iter().for_each(|secret| known.add(secret));
    known.shown(text)
}

#[test]
fn a_text_with_a_part_of_a_known_secret_is_not_shown() {
    let secret = "Abcd/Éfgh12345678";
    for text in [
        secret,
        "ABCD/éFGH12345678",
        "fgh12345678",
        "12345678",
        "Abcd/Éfgh1",
        "Abcd fgh",
        "Abcd?fgh12345678",
        "Abcd+Ã©fgh",
        r"Abcd\u002f",
        "Abcd%2FX",
        "Abcd&#47;X",
        "Abcd&sol;X",
        "QWJjZC/DiWZnaDEyMzQ1Njc4",
        "QWJjZC_DiWZnaDEyMzQ1Njc4",
        // me:SECRET
        "bWU6QWJjZC/DiWZnaDEyMzQ1Njc4",
        "DiWZnaDEyMzQ1Njc4",
        "416263642fc389666768",
        "2FC38966676831323334",
        "A\0b\0c\0d\0",
        "Abcd\u{fffd}",
        "Abcd\u{200b}",
        "Abcd\u{1b}[0m",
    ] {
        assert_eq!(shown(&[secret], text), None, "{text:?}");
        let text = format!("you sent {text}.");
        assert_eq!(shown(&[secret], &text), None, "{text:?}");
    }
    for text in [
        "Bad client credentials",
        "got Abcd, and then 1234",
        "Größe, 100% & more; R&D",
        "AADSTS7000215: wrong secret for app 'x'.\r\nTrace ID: 6a6f1b8e-0000-4000-8000-000000000000",
    ] {
        assert_eq!(shown(&[secret], text).as_deref(), Some(text));
    }
    assert_eq!(shown(&["pin"], "a pin"), None);
    assert_eq!(shown(&["", "Abcd"], "Bcd"), Some("Bcd".to_owned()));
    assert_eq!(shown(&["+§/-%"], "got +§/-%"), None);
}

#[test]
fn a_text_of_a_server_is_cut() {
    let text = "é".repeat(10_000);
    assert_eq!(shown(&[], &text).unwrap(), text[..1024]);
}

proptest! {
    #[test]
    fn members_are_masked_in_any_text(before in any::<String>(), value in "[a-z]{12}", depth in 0_usize..4, cut in 0_usize..9) {
        let mut text = serde_json::json!({"a": before, "refresh_token": value, "b": [before]}).to_string();
        for _ in 0..depth {
            text = serde_json::json!({"said": text}).to_string();
        }
        let end = text.floor_char_boundary(text.len().saturating_sub(cut));
        prop_assert!(!masked_text(&text[..end]).contains(&value));
        prop_assert!(!masked_text_of_server(&text[..end]).contains(&value));
        let _ = (masked_text(&before), masked_text_of_server(&before));
    }
}
