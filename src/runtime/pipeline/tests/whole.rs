//! Work on the response as a whole, and in parallel to it.

use super::*;
use crate::upstream::budget::Charge;

#[test]
fn static_data_is_added_to_the_response_by_strategy() {
    let replies = [
        ("/a", ok(r#"{"a":1}"#)),
        ("/b", ok(r#"{"b":2}"#)),
        ("/f", Reply::Response(500, "")),
    ];
    let asked = |strategy: &str, urls: [&str; 2]| {
        let data = json!({"a": "s", "n": 1.0});
        let mut work = work(urls.map(backend));
        work.static_data = Some(StaticData::compile(strategy, data.as_object().unwrap()));
        ask(&replies, work)
    };
    let (with, without) = (r#"{"a":"s","b":2,"n":1}"#, r#"{"a":1,"b":2}"#);
    let (part, bare, only) = (r#"{"a":"s","n":1}"#, r#"{"a":1}"#, r#"{"a":"s","n":1}"#);
    for (strategy, all, one, none) in [
        ("always", with, part, Some(only)),
        ("nonsense", with, part, Some(only)),
        ("success", with, bare, None),
        ("complete", with, bare, None),
        ("errored", without, part, Some(only)),
        ("incomplete", without, part, Some(only)),
    ] {
        asked(strategy, ["/a", "/b"]).is(200, all, true);
        asked(strategy, ["/a", "/f"]).is(200, one, false);
        match none {
            Some(body) => asked(strategy, ["/f", "/f"]).is(200, body, false),
            None => asked(strategy, ["/f", "/f"]).is(500, "", false),
        }
    }
}

#[test]
fn static_data_hides_a_status_but_not_the_error() {
    let mut work = work([failing("/f", ErrorMode::Code)]);
    let data = json!({"s": {"x": "<"}});
    work.static_data = Some(StaticData::compile("errored", data.as_object().unwrap()));
    let seen = ask(&[("/f", Reply::Response(404, "no"))], work);
    seen.is(200, r#"{"s":{"x":"\u003c"}}"#, false);
    assert_eq!(seen.errors.len(), 1);
}

#[test]
fn the_endpoint_s_flatmap_runs_only_on_complete_merged_responses() {
    let args = ["a".to_owned(), "z".to_owned()];
    let flatmap = || Flatmap::compile([("move", &args[..])]).unwrap();
    let replies = [
        ("/a", ok(r#"{"a":1}"#)),
        ("/b", ok(r#"{"b":2}"#)),
        ("/f", Reply::Response(500, "")),
    ];
    let asked = |urls: &[&str]| {
        let mut work = work(urls.iter().map(|url| backend(url)));
        work.flatmap = flatmap();
        ask(&replies, work)
    };
    asked(&["/a", "/b"]).is(200, r#"{"b":2,"z":1}"#, true);
    asked(&["/a", "/f"]).is(200, r#"{"a":1}"#, false);
    asked(&["/a"]).is(200, r#"{"a":1}"#, true);
}

#[test]
fn shadows_get_a_copy_and_are_not_waited_for() {
    let mut work = work([backend("/a")]);
    work.shadows = Box::new([Arc::new(Shadow {
        backend: backend("/shadow"),
        timeout: AGES,
    })]);
    let fake = Fake::new(&[("/a", ok(r#"{"a":1}"#)), ("/shadow", Reply::Never)]);
    Run::default().ask(&fake, work).is(200, r#"{"a":1}"#, true);
    let seen = fake.seen.lock().unwrap();
    let shadow = seen.iter().find(|out| out.target == "/shadow").unwrap();
    assert_eq!(shadow.body, "{\"in\":1}");
}

#[derive(Debug)]
struct Signs {
    ready: bool,
}

impl ResponseSigner for Signs {
    fn ready(&self) -> bool {
        self.ready
    }

    fn sign(&self, data: &mut Value, _: &mut Charge) -> Result<(), Failure> {
        if let Some(object) = data.as_object_mut() {
            object.insert("token".into(), Value::string("signed"));
        }
        Ok(())
    }
}

#[test]
fn signed_responses_are_complete_and_have_none_of_our_headers() {
    let replies = [
        ("/a", Reply::Response(201, r#"{"token":{"x":1},"b":1}"#)),
        ("/f", Reply::Response(401, "")),
    ];
    let asked = |urls: &[&str], ready: bool| {
        let mut work = work(urls.iter().map(|url| failing(url, ErrorMode::Code)));
        work.signer = Some(Arc::new(Signs { ready }));
        let seen = ask(&replies, work);
        assert_eq!((seen.completed, seen.cached), (None, false));
        (seen.status, seen.body)
    };
    assert_eq!(
        asked(&["/a"], true),
        (200, r#"{"b":1,"token":"signed"}"#.to_owned())
    );
    assert_eq!(asked(&["/f"], true), (400, String::new()));
    assert_eq!(asked(&["/a", "/f"], true), (400, String::new()));
    assert_eq!(asked(&["/a"], false), (401, String::new()));
}
