//! Requests and responses as scripts see them.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{backend, block, check, code, endpoint, post, pre, proxy, request, response, written};
use crate::ext::testing::head;
use crate::runtime::pipe::{PipeResponse, Reply, ResponseAccess};
use crate::runtime::request::{Notes, Params};

#[tokio::test]
async fn invalid_utf8_in_a_parameter_reaches_a_script() {
    use crate::runtime::template::escape;
    let pipe = proxy(&code(
        "pre",
        "local r = request.load()
         r:headers('X-Seen', r:params('Id'))
         r:params('Id', r:params('Id') .. '!')",
    ));
    let mut request = request();
    request.params = Params(smallvec::smallvec![("id".into(), escape::kept(b"caf\xe9"))]);
    pre(&*pipe, &mut request).await.unwrap();
    assert_eq!(request.headers["x-seen"].as_bytes(), b"caf\xe9");
    let after = request.params.get("id").unwrap();
    assert_eq!(*escape::bytes(after), *b"caf\xe9!");
}

#[tokio::test]
async fn a_request_is_read_and_changed() {
    let pipe = proxy(&code(
        "pre",
        "local r = request.load()
         r:headers('X-Seen', table.concat({r:method(), r:path(), r:query(), r:url(), r:params('Id'), r:body()}, '|'))
         r:headers('x-COUNT', r:headerList('X-T'):len())
         r:headers('X-T', nil)
         r:params('Id', 'nine')
         r:query('q=1&p=a b')
         r:body(r:body() .. '+')",
    ));
    let mut request = request();
    pre(&*pipe, &mut request).await.unwrap();
    assert_eq!(request.headers["x-seen"], "GET|/m/7|a=b+c&z=1||7|text");
    assert_eq!(request.headers["x-count"], "2");
    assert!(!request.headers.contains_key("x-t"));
    assert_eq!(request.params.get("id"), Some("nine"));
    assert_eq!(request.query.as_deref(), Some("p=a+b&q=1"));
    assert_eq!(request.body, "text+");
}

#[tokio::test]
async fn a_backends_url_can_no_longer_be_changed_by_parts() {
    let pipe = backend(&code(
        "pre",
        "local r = request.load()
         r:headers('X-Url', r:url())
         r:path('/elsewhere') r:query('no=1') r:params('Id', 'x')
         r:headers('X-Path', r:path() .. '?' .. r:query() .. r:params('Id'))",
    ));
    let mut call = request();
    call.origin = Some("http://a.test:8080".into());
    pre(&*pipe, &mut call).await.unwrap();
    assert_eq!(call.headers["x-url"], "http://a.test:8080/m/7?z=1&a=b%20c");
    assert_eq!(call.headers["x-path"], "/elsewhere?no=1x");
    assert_eq!(call.target(), "/m/7?z=1&a=b%20c");

    let pipe = backend(&code(
        "pre",
        "request.load():url('https://b.test?k=v#frag')",
    ));
    pre(&*pipe, &mut call).await.unwrap();
    assert_eq!(call.url(), "https://b.test/?k=v");
    for url in [
        "b.test/x",
        "ftp://b.test/",
        "http:///x",
        "http://b.test/a b",
        "htp:///u:PASS@b.test/?access_token=PASS",
    ] {
        let pipe = backend(&code("pre", &format!("request.load():url('{url}')")));
        let failure = pre(&*pipe, &mut call).await.unwrap_err();
        assert!(!format!("{failure:?}").contains("PASS"), "{failure:?}");
    }
}

#[tokio::test]
async fn data_is_a_live_reference() {
    let pipe = proxy(&code(
        "post",
        "local d = response.load():data()
         local o = d:get('o')
         o:set('k', 'new'); o:get('deep'):set('n', 1)
         d:set('len', d:len()); d:set('has', d:keyExists('o')); d:set('not', d:keyExists('no'))
         d:set('keys', d:keys()); d:set('type', type(d:get('null')))
         d:set('seq', {{1, 2, {3}}, {a = {}}, 'x'})
         d:set('nothing', nil); d:set('f', print)",
    ));
    let json = post(&*pipe, r#"{"o":{"k":"v","deep":{}},"null":null}"#).await;
    assert_eq!(
        json.unwrap(),
        r#"{"has":true,"keys":["has","len","not","null","o"],"len":2,"not":false,"null":null,"o":{"deep":{"n":1},"k":"new"},"seq":{"1":[1,2,[3]],"2":{"a":null},"3":"x"},"type":"userdata"}"#
    );
}

#[tokio::test]
async fn the_client_s_request_is_read_and_changed() {
    let step = endpoint(&code(
        "pre",
        "local c = ctx.load()
         c:headers('X-Seen', c:method() .. c:url() .. c:host() .. c:query('q') .. c:query('no') .. c:params('id'))
         c:headers('X-Host', c:headers('Host'))
         c:query('q', 'lua'); c:params('id', 'bob'); c:method('POST'); c:host('h.test')
         c:headers('X-Gone', nil)",
    ));
    assert!(!step.needs_body());
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("api.test"));
    headers.insert("x-gone", HeaderValue::from_static("1"));
    let mut notes = Notes {
        params: Params(smallvec::smallvec![("id".into(), "7".to_owned())]),
        ..Notes::default()
    };
    let target = "/m/7?z=1&q=a%20b&q=c";
    assert!(check(&*step, target, &headers, &mut notes).await.is_none());
    let value = |notes: &Notes, name: &'static str| {
        let name = http::HeaderName::from_static(name);
        let sent = head(&Method::GET, target, &headers);
        let found = notes.header_values(&sent, &name).next();
        found.map(|value| value.to_str().unwrap().to_owned())
    };
    let seen = value(&notes, "x-seen").unwrap();
    assert_eq!(seen, "GET/m/7?z=1&q=a%20b&q=capi.testa b7");
    assert_eq!(value(&notes, "x-host").as_deref(), Some(""));
    assert_eq!(value(&notes, "x-gone"), None);
    assert_eq!(notes.params.get("id"), Some("bob"));
    let sent = head(&Method::GET, target, &headers);
    let new = notes.head(&sent);
    assert_eq!((new.method, new.host()), (&Method::POST, "h.test"));
    assert_eq!(new.query, Some("q=lua&z=1"));
}

#[tokio::test]
async fn a_body_is_available_to_a_script_that_uses_it() {
    let step = endpoint(&code("pre", "local c = ctx.load() c:body(c:body() .. '+')"));
    assert!(step.needs_body());
    let mut notes = Notes {
        body: Some(Bytes::from_static(b"text")),
        ..Notes::default()
    };
    assert!(
        check(&*step, "/m/7", &HeaderMap::new(), &mut notes)
            .await
            .is_none()
    );
    assert_eq!(notes.body.unwrap(), "text+");

    let hidden = endpoint(&code("pre", "local c = ctx.load() c['bo' .. 'dy'](c)"));
    assert!(!hidden.needs_body());
    let mut notes = Notes::default();
    let response = check(&*hidden, "/m/7", &HeaderMap::new(), &mut notes).await;
    assert_eq!(response.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        notes.errors[0].contains("was not read"),
        "{:?}",
        notes.errors
    );
}

#[tokio::test]
async fn a_rejection_by_an_endpoint_script_has_no_text() {
    for (call, status, kind) in [
        (
            "custom_error('{}', 451, 'application/json')",
            451,
            Some("application/json"),
        ),
        ("custom_error('m')", 500, None),
        ("nothing.here = 1", 500, None),
    ] {
        let mut notes = Notes::default();
        let step = endpoint(&code("pre", call));
        let response = check(&*step, "/m/7", &HeaderMap::new(), &mut notes)
            .await
            .unwrap();
        assert_eq!(response.status.as_u16(), status);
        assert!(response.body.is_empty());
        let found = response
            .fields
            .iter()
            .find(|(name, _)| *name == CONTENT_TYPE);
        assert_eq!(found.map(|(_, value)| value.to_str().unwrap()), kind);
        assert_eq!((notes.rejected, notes.errors.len()), (Some("script"), 1));
    }
}

#[tokio::test]
async fn a_streamed_response_can_be_changed() {
    let pipe = proxy(&code(
        "post",
        "local r = response.load()
         r:headers('X-Seen', r:statusCode() .. r:headers('Content-Type') .. r:headers('content-type') .. r:body())
         r:statusCode(203); r:body('new'); r:headers('X-Old', nil); r:isComplete(false)",
    ));
    assert_eq!(pipe.response_access(), ResponseAccess::Whole);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("a/b"));
    headers.insert("x-old", HeaderValue::from_static("1"));
    let mut response = PipeResponse {
        reply: Some(Reply {
            status: StatusCode::CREATED,
            headers,
            body: Some(Bytes::from_static(b"old")),
            origin: None,
        }),
        ..response("{}")
    };
    pipe.after(None, &request(), &mut response).await.unwrap();
    let reply = response.reply.unwrap();
    assert_eq!(reply.status.as_u16(), 203);
    assert_eq!(reply.headers["x-seen"], "201a/bold");
    assert!(!reply.headers.contains_key("x-old"));
    assert_eq!(reply.body.unwrap(), "new");
    assert!(!response.complete);

    let head_only = proxy(&code("post", "response.load():headers('A', 'b')"));
    assert_eq!(head_only.response_access(), ResponseAccess::Head);
    assert_eq!(
        proxy(&code("pre", "x = 1")).response_access(),
        ResponseAccess::Nothing
    );
}

#[tokio::test]
async fn skip_next_gives_an_empty_response_to_post() {
    let pipe = proxy(&block(&[
        ("skip_next", true.into()),
        ("post", "response.load():data():set('made', 'here')".into()),
    ]));
    let mut request = request();
    let passed = pipe.before(&mut request).await.unwrap();
    assert!(passed.skip);
    let mut response = PipeResponse::skipped();
    pipe.after(passed.state, &request, &mut response)
        .await
        .unwrap();
    assert_eq!(written(&response), r#"{"made":"here"}"#);
}

#[tokio::test]
async fn the_clients_path_is_decoded() {
    let mut request = request();
    request.path = "/m/a%20b%25%C3%BC".into();
    let see = "local r = request.load() r:headers('X-Path', r:path())";
    pre(&*proxy(&code("pre", see)), &mut request).await.unwrap();
    assert_eq!(request.headers["x-path"].as_bytes(), "/m/a b%ü".as_bytes());
    let again = "local r = request.load() r:path(r:path() .. '?')";
    pre(&*proxy(&code("pre", again)), &mut request)
        .await
        .unwrap();
    assert_eq!(&*request.path, "/m/a%20b%25%C3%BC%3F");
}

#[tokio::test]
async fn a_skipped_response_has_no_status() {
    let see =
        "local r = response.load() r:headers('X-Seen', r:statusCode() .. tostring(r:isComplete()))";
    let pipe = proxy(&block(&[("skip_next", true.into()), ("post", see.into())]));
    let mut response = PipeResponse {
        reply: Some(Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: None,
            origin: None,
        }),
        ..PipeResponse::skipped()
    };
    pipe.after(None, &request(), &mut response).await.unwrap();
    let reply = response.reply.unwrap();
    assert_eq!(reply.headers["x-seen"], "0false");
    assert_eq!(reply.status, StatusCode::OK);
}
