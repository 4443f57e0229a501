use http::{HeaderMap, HeaderValue, Method};

use super::SERVICE;
use crate::ext::extension::ServicePart;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;

/// The id of a request with these lines of `X-Request-Id`, and whether the response contains it.
fn named(block: &str, sent: &[&str]) -> (String, bool) {
    let mut file = File::new(block);
    let ServicePart::Step(step) = file.service(&SERVICE) else {
        panic!("{}", file.findings())
    };
    let mut headers = HeaderMap::new();
    for id in sent {
        headers.append("x-request-id", HeaderValue::from_str(id).unwrap());
    }
    let mut notes = Notes::default();
    let response = step.request(&head(&Method::GET, "/a", &headers), &mut notes);
    assert!(response.is_none());
    let id = notes.request_id.unwrap();
    let told = notes
        .response_fields
        .contains(&(id.header, id.value.clone()));
    (id.value.to_str().unwrap().to_owned(), told)
}

fn is_uuid(id: &str) -> bool {
    let parts: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && parts[2].starts_with('4')
        && parts[3].starts_with(['8', '9', 'a', 'b'])
        && parts.concat().bytes().all(|b| b.is_ascii_hexdigit())
}

#[test]
fn an_id_is_random_and_not_chosen_by_the_client() {
    let (one, told) = named("{}", &["mine"]);
    assert!(is_uuid(&one) && told, "{one}");
    assert_ne!(one, named("{}", &[]).0);
    assert!(!named(r#"{"respond": false}"#, &[]).1);
}

#[test]
fn a_trusted_id_is_kept_if_it_is_valid() {
    let trust = r#"{"trust": true}"#;
    let long = "x".repeat(128);
    for id in ["a", "4f2d:b/7=~", &long] {
        assert_eq!(named(trust, &[id]).0, id);
    }
    let longer = "x".repeat(129);
    for sent in [
        &["a b"][..],
        &[""],
        &[&longer],
        &["a\tb"],
        &["é"],
        &["a", "a"],
    ] {
        assert!(is_uuid(&named(trust, sent).0), "{sent:?}");
    }
}

#[test]
fn a_header_with_another_meaning_cannot_carry_the_id() {
    for name in ["Host", "content-length", "a b", "", "Authorization"] {
        let mut file = File::new(&format!(r#"{{"header": "{name}"}}"#));
        file.service(&SERVICE);
        assert_eq!(file.config_errors(), 1, "{name}");
    }
}
