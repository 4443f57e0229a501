//! Scripts without network access.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::{BACKEND, ENDPOINT, PROXY, SERVICE};
use crate::ext::extension::{BackendPart, EndpointPart, ServicePart};
use crate::ext::testing::{File, head};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::json::{Depth, Style, parse, to_bytes};
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep, Reply, Sight};
use crate::runtime::request::{Notes, Params};
use crate::runtime::response::Response;
use crate::runtime::step::{EndpointStep, Gate};

type Pipe = Box<dyn PipeStep>;

fn block(keys: &[(&str, serde_json::Value)]) -> String {
    let members = keys.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
    serde_json::Value::Object(members.collect()).to_string()
}

fn code(key: &str, code: &str) -> String {
    block(&[(key, code.into())])
}

fn open(key: &str, code: &str) -> String {
    block(&[(key, code.into()), ("allow_open_libs", true.into())])
}

fn proxy(block: &str) -> Pipe {
    let mut file = File::new(block);
    match file.endpoint(&PROXY, "/m/{id}") {
        EndpointPart::Piped { mut pipes, .. } => pipes.remove(0),
        other => panic!("{other:?}: {}", file.findings()),
    }
}

fn backend(block: &str) -> Pipe {
    match File::new(block).backend(&BACKEND, "{}") {
        BackendPart::Pipe(pipe) => pipe,
        other => panic!("{other:?}"),
    }
}

fn endpoint(block: &str) -> Box<dyn EndpointStep> {
    match File::new(block).endpoint(&ENDPOINT, "/m/{id}") {
        EndpointPart::Steps(mut steps) => steps.remove(0),
        other => panic!("{other:?}"),
    }
}

fn request() -> PipeRequest {
    let mut headers = HeaderMap::new();
    headers.append("x-t", HeaderValue::from_static("a"));
    headers.append("x-t", HeaderValue::from_static("b"));
    PipeRequest {
        method: Method::GET,
        origin: None,
        path: "/m/7".into(),
        query: Some("z=1&a=b%20c".into()),
        params: Params(smallvec::smallvec![("id".into(), "7".to_owned())]),
        headers,
        body: Bytes::from_static(b"text"),
        claims: None,
        client: std::net::IpAddr::from([127, 0, 0, 1]),
        deadline: Instant::now() + Duration::from_secs(5),
    }
}

fn response(json: &str) -> PipeResponse {
    let body = Bytes::copy_from_slice(json.as_bytes());
    PipeResponse {
        data: parse(&body, Depth::TopLevel).unwrap(),
        complete: true,
        reply: None,
        meta: Default::default(),
    }
}

fn written(response: &PipeResponse) -> String {
    let bytes = to_bytes(&response.data, Style::Canonical);
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn pre(pipe: &dyn PipeStep, request: &mut PipeRequest) -> Result<(), Failure> {
    pipe.before(request).await.map(|_| ())
}

/// Passes `json` through `post` and returns the result.
async fn post(pipe: &dyn PipeStep, json: &str) -> Result<String, Failure> {
    let mut request = request();
    let passed = pipe.before(&mut request).await?;
    let mut response = response(json);
    pipe.after(passed.state, &request, &mut response).await?;
    Ok(written(&response))
}

/// The value of the expression `code`, as a string under `x`.
async fn shown(pipe_block: impl Fn(&str, &str) -> String, expression: &str) -> String {
    let code = format!("response.load():data():set('x', tostring({expression}))");
    let pipe = proxy(&pipe_block("post", &code));
    match post(&*pipe, "{}").await {
        Ok(json) => {
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            value["x"].as_str().unwrap_or_default().to_owned()
        }
        Err(failure) => format!("! {}", failure.text),
    }
}

/// Runs an endpoint's step to its end.
async fn check(
    step: &dyn EndpointStep,
    target: &str,
    headers: &HeaderMap,
    notes: &mut Notes,
) -> Option<Response> {
    let head = head(&Method::GET, target, headers);
    let mut gate = step.check(&head, notes);
    loop {
        gate = match gate {
            Gate::Pass => return None,
            Gate::Reject(response) => return Some(response),
            Gate::Wait(mut wait) => {
                wait.done().await;
                wait.decide(&head, notes)
            }
        };
    }
}

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
    ] {
        let pipe = backend(&code("pre", &format!("request.load():url('{url}')")));
        assert!(pre(&*pipe, &mut call).await.is_err(), "{url}");
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
async fn a_missing_key_is_no_value() {
    let failure = async |expression: &str| {
        let code = format!("local d = response.load():data() local x = {expression}");
        let pipe = proxy(&code_of(&code));
        post(&*pipe, "{}").await.unwrap_err().text.into_owned()
    };
    fn code_of(text: &str) -> String {
        super::tests::code("post", text)
    }
    assert_eq!(
        failure("type(d:get('x'))").await,
        "bad argument #1 to 'type' (value expected) (post-script:L1)"
    );
    assert_eq!(failure("d:get()").await, "need arguments (post-script:L1)");
    assert_eq!(
        failure("d:set('nan', 0/0)").await,
        "JSON has no such number (post-script:L1)"
    );
    let pipe = proxy(&code(
        "post",
        "local d = response.load():data() local x = d:get('x') d:set('is', x == nil)",
    ));
    assert_eq!(post(&*pipe, "{}").await.unwrap(), r#"{"is":true}"#);
}

#[tokio::test]
async fn numbers_keep_their_type() {
    let pipe = proxy(&code(
        "post",
        "local d = response.load():data()
         for _, k in ipairs({'a', 'b', 'c'}) do d:set(k .. '2', d:get(k)) end
         d:set('text', 'n=' .. tostring(d:get('d')) .. ',' .. tostring(0.1 + 0.2))",
    ));
    let json = post(
        &*pipe,
        r#"{"a":12345678901,"b":1.0,"c":1e2,"d":12345678901234567}"#,
    )
    .await;
    assert_eq!(
        json.unwrap(),
        r#"{"a":12345678901,"a2":12345678901,"b":1.0,"b2":1,"c":1e2,"c2":100,"d":12345678901234567,"text":"n=12345678901234568,0.30000000000000004"}"#
    );
}

#[tokio::test]
async fn globals_last_as_long_as_their_request() {
    let both = block(&[
        ("pre", "seen = (seen or 0) + 1; table.mine = seen".into()),
        (
            "post",
            "response.load():data():set('seen', seen + table.mine); seen = 5".into(),
        ),
    ]);
    let pipe = proxy(&both);
    for _ in 0..5 {
        assert_eq!(post(&*pipe, "{}").await.unwrap(), r#"{"seen":2}"#);
    }
}

/// The effects of one request on the interpreter must not be visible to the next one, which gets the same
/// interpreter.
#[tokio::test]
async fn nothing_leaks_into_the_next_request() {
    let spoil = "
        x = 1
        table.insert = nil
        string.format = function() return 'evil' end
        getmetatable('').__index = function() return 'evil' end
        rawset(_G, 'print', nil)
        package.loaded.evil = true
        getfenv(0).y = 1
        getfenv(1).z = 1
        getfenv(pcall).w = 1
        setfenv(tostring, { type = function() return 'evil' end })
        xpcall(function() error('x') end, function() getfenv(2).u = 1 getfenv(2).type = nil end)
        assert(not pcall(function()
          xpcall(function() error('x') end, function() setfenv(2, { u = 1 }) end)
        end))
        setmetatable({}, { __tostring = function() getfenv(3).u = 1 return 'x' end })
        loadstring('v = 1')()
        math.randomseed(1)
        coroutine.yield = nil
        setmetatable(_G, { __index = function() return 'evil' end })
        local io_type = io.type; io.type = nil
        collectgarbage('stop')
        setfenv(0, {})
    ";
    let look = "
        local d = response.load():data()
        for _, name in ipairs({'x', 'y', 'z', 'w', 'v', 'u'}) do
          if rawget(_G, name) ~= nil or getfenv(0)[name] ~= nil or getfenv(pcall)[name] ~= nil
            or select(2, xpcall(error, function() return getfenv(2)[name] end)) ~= nil then d:set(name, 'leaked') end
        end
        d:set('insert', type(table.insert))
        d:set('format', string.format('%d', 7))
        d:set('method', ('abc'):upper())
        d:set('print', type(print))
        d:set('package', tostring(package.loaded.evil))
        d:set('tostring', tostring(8))
        d:set('yield', type(coroutine.yield))
        d:set('io', type(io.type))
        d:set('index', tostring(rawget(_G, 'getmetatable')(_G)))
        d:set('random', math.random() ~= math.random())
    ";
    let mut file = File::new(&open("post", spoil));
    let EndpointPart::Piped { pipes: spoils, .. } = file.endpoint(&PROXY, "/spoil") else {
        panic!()
    };
    let EndpointPart::Piped { pipes: looks, .. } =
        file.endpoint_with(&PROXY, &open("post", look), "/look", Method::GET)
    else {
        panic!()
    };
    let clean = post(&*looks[0], "{}").await.unwrap();
    assert_eq!(
        clean,
        r#"{"format":"7","index":"nil","insert":"function","io":"function","method":"ABC","package":"nil","print":"function","random":true,"tostring":"8","yield":"function"}"#
    );
    post(&*spoils[0], "{}").await.unwrap();
    for _ in 0..3 {
        assert_eq!(post(&*looks[0], "{}").await.unwrap(), clean);
    }
    // String methods are not available either if they are not allowed.
    let EndpointPart::Piped { pipes: closed, .. } = file.endpoint_with(
        &PROXY,
        &code("post", "local s = ('a'):sub(1)"),
        "/closed",
        Method::GET,
    ) else {
        panic!()
    };
    let failure = post(&*closed[0], "{}").await.unwrap_err();
    assert!(
        failure.text.contains("attempt to index"),
        "{}",
        failure.text
    );
}

#[tokio::test]
async fn only_configured_libraries_are_available() {
    for name in ["string", "math", "os", "io", "debug", "coroutine"] {
        assert_eq!(shown(code, &format!("type({name})")).await, "nil");
        assert_eq!(shown(open, &format!("type({name})")).await, "table");
        assert_eq!(
            shown(open, &format!("require('{name}') == {name}")).await,
            "true"
        );
    }
    for name in ["table", "package"] {
        assert_eq!(shown(code, &format!("type({name})")).await, "table");
    }
    assert_eq!(shown(code, "_VERSION").await, "Lua 5.1");
    assert_eq!(shown(open, "('x'):rep(3)").await, "xxx");
    assert_eq!(shown(open, "string.format('%05.1f', 2.25)").await, "002.2");
    let exit = shown(open, "os.exit(1)").await;
    assert!(exit.contains("a script cannot end the gateway"), "{exit}");
    assert_eq!(
        shown(
            open,
            "debug.getinfo(1).currentline .. debug.getinfo(1).short_src"
        )
        .await,
        "1post-script"
    );
    assert!(
        shown(open, "debug.traceback('t')")
            .await
            .starts_with("t\nstack traceback:")
    );
    assert_eq!(shown(open, "math.random(3, 3)").await, "3");
    assert_eq!(shown(open, "select('#', pcall(function() end))").await, "1");
}

#[tokio::test]
async fn strings_are_searched_as_in_lua() {
    for (expression, value) in [
        ("(('a,b,c'):gsub(',', ';'))", "a;b;c"),
        ("select(2, ('a,b,c'):gsub(',', ';', 1))", "1"),
        (
            "(('hello world'):gsub('(%w+) (%w+)', '%2 %1'))",
            "world hello",
        ),
        ("(('abc'):gsub('', '-'))", "-a-b-c-"),
        ("(('abc'):gsub('%w', {a = 1, b = false}))", "1bc"),
        (
            "(('abc'):gsub('b', function(c) return c:upper() end))",
            "aBc",
        ),
        ("(('x = 1'):match('^(%w+)%s*=%s*(%d+)$'))", "x"),
        ("('abc'):find('b', 1, true)", "2"),
        ("('a.c'):find('.', 2, true)", "2"),
        ("('abc'):find('c', -1)", "3"),
        ("('abc'):match('()b')", "2"),
        (
            "table.concat({('k=v, q=w'):match('(%w+)=(%w+)')}, '/')",
            "k/v",
        ),
        ("('abc'):find('z')", "nil"),
    ] {
        assert_eq!(shown(open, expression).await, value, "{expression}");
    }
    let pipe = proxy(&open(
        "post",
        "local d, n = response.load():data(), 0
         for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do d:set(k, v) n = n + 1 end
         d:set('n', n)",
    ));
    assert_eq!(
        post(&*pipe, "{}").await.unwrap(),
        r#"{"a":"1","b":"2","n":2}"#
    );
    let broken = shown(open, "('a'):match('[')").await;
    assert_eq!(broken, "! malformed pattern (missing ']') (post-script:L1)");
}

#[tokio::test]
async fn errors_have_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.lua"), folder.path().join("b.lua"));
    std::fs::write(&a, "local deep = 1\nfunction one() return deep end\n").unwrap();
    std::fs::write(&b, "\n\nfunction two(x)\n  return x.y + deep\nend").unwrap();
    let sources = serde_json::json!([a, b]);
    let failure = async |pre: &str| {
        let pipe = proxy(&block(&[("sources", sources.clone()), ("pre", pre.into())]));
        let failure = pre_of(&*pipe).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Script);
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
        failure.text.into_owned()
    };
    async fn pre_of(pipe: &dyn PipeStep) -> Result<(), Failure> {
        pre(pipe, &mut request()).await
    }
    let b = b.display();
    assert_eq!(
        failure("\ntwo(nil)").await,
        format!("attempt to index local 'x' (a nil value) ({b}:L4)")
    );
    assert_eq!(failure("\n\nerror('mine')").await, "mine (pre-script:L3)");
    assert_eq!(failure("error('plain', 0)").await, "plain");
    assert_eq!(
        failure("request.load():headers('a b', 'c')").await,
        "invalid header field name (pre-script:L1)"
    );
    assert_eq!(
        failure("request.load():headers('a', 'c\\r\\nd: e')").await,
        "invalid header field value (pre-script:L1)"
    );
    assert_eq!(
        failure("\nhttp_response.new('a', 'b')").await,
        "need 1, 3 or 4 arguments (pre-script:L2)"
    );
    assert!(
        failure("\nrequire(nil)")
            .await
            .ends_with(" (pre-script:L2)")
    );
    // A local of the first file is visible in the second.
    assert_eq!(failure("error(two({y = 2}))").await, "3 (pre-script:L1)");
}

#[tokio::test]
async fn a_custom_error_determines_the_response() {
    for (call, status, body, content_type) in [
        ("custom_error('m')", 500, "m", None),
        ("custom_error('a || b || c', 418)", 418, "a || b || c", None),
        ("custom_error('{}', '422', 'a/b')", 422, "{}", Some("a/b")),
        ("custom_error('m', 99999)", 500, "m", None),
        ("custom_error('m', 101)", 500, "m", None),
        ("custom_error(12, 404.0)", 404, "12", None),
        ("custom_error('m', 418.7)", 418, "m", None),
        ("custom_error('m', 0/0)", 500, "m", None),
        ("custom_error('m', 418, '')", 418, "m", None),
        // An error that is caught and raised again is still the same.
        (
            "local _, e = pcall(custom_error, 'again', 409); error(e)",
            409,
            "again",
            None,
        ),
        (
            "pcall(function() custom_error('lost', 409) end) custom_error('kept', 410)",
            410,
            "kept",
            None,
        ),
    ] {
        let failure = pre(&*proxy(&code("pre", call)), &mut request())
            .await
            .unwrap_err();
        assert_eq!(failure.status.as_u16(), status, "{call}");
        let (found, kind) = failure.body.unwrap();
        assert_eq!(found, body, "{call}");
        assert_eq!(
            kind.as_ref().map(|kind| kind.to_str().unwrap()),
            content_type
        );
    }
    let failure = pre(&*proxy(&code("pre", "custom_error()")), &mut request()).await;
    assert_eq!(failure.unwrap_err().text, "need arguments (pre-script:L1)");
    let caught =
        "local ok, e = pcall(custom_error, 'm', 400); request.load():headers('X-E', type(e) .. e)";
    let mut seen = request();
    pre(&*proxy(&code("pre", caught)), &mut seen).await.unwrap();
    assert_eq!(seen.headers["x-e"], "stringm");
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
    assert_eq!((new.method, new.host), (&Method::POST, "h.test"));
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
    assert_eq!(pipe.sight(), Sight::Whole);
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
    assert_eq!(head_only.sight(), Sight::Head);
    assert_eq!(proxy(&code("pre", "x = 1")).sight(), Sight::Nothing);
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

/// Scripts that never end, or exhaust memory or the stack: the request fails, the process survives, and others
/// continue.
#[tokio::test]
async fn scripts_are_limited() {
    let endless = [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() end) end",
        "local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "('a'):rep(50000):find(('.-'):rep(20) .. 'b')",
        "for i = 1, 1e12 do pcall(string.find, ('a'):rep(50000), ('.-'):rep(20) .. 'b') end",
        "('('):rep(400000):find('%b()')",
        "local s = ('a'):rep(1e7) for i = 1, 1e9 do s:upper() end",
        "local s = ('a'):rep(1e7) for i = 1, 1e9 do s:lower() s:reverse() end",
        "local s = ('a'):rep(1e7) for i = 1, 1e9 do s:find('b', 1, true) end",
        "local s = ('a'):rep(1e6) for i = 1, 1e9 do ('%q'):format(s) end",
        "for i = 1, 1e9 do ('a'):rep(1e7) end",
    ];
    for script in endless {
        let pipe = proxy(&open("pre", script));
        let mut request = request();
        request.deadline = Instant::now() + Duration::from_millis(60);
        let began = Instant::now();
        let failure = pre(&*pipe, &mut request).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Deadline, "{script}: {failure}");
        assert!(began.elapsed() < Duration::from_secs(3), "{script}");
    }
    let greedy = [
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "return ('x'):rep(1e10)",
        "return (('x'):rep(1e5):gsub('.', ('y'):rep(1e5)))",
        "local d = luaTable.new() for i = 1, 1e9 do d:set(i, 'x') end",
        "luaList.new():set(1e9, 1)",
        "local l = luaList.new() for i = 0, 1e9 do l:set(i, 'x') end",
        "local r = request.load() for i = 1, 4e4 do r:headers('X-' .. i, 'x') end",
        "local r, long = request.load(), ('x'):rep(1e5) for i = 1, 1e4 do r:headers('X-' .. i, long) end",
        "local r = request.load() while true do r:headers('X-A', 'x') end",
        "local l, long = {}, ('x'):rep(1e5) for i = 1, 1e4 do l[i] = long end request.load():headerList('X-A', l)",
        "local h = {} for i = 1, 4e4 do h['X-' .. i] = 'x' end http_response.new('http://127.0.0.1:1', 'GET', '', h)",
        "local h, long = {}, ('x'):rep(1e5) for i = 1, 1e4 do h[i] = long end
         http_response.new('http://127.0.0.1:1', 'GET', '', {['X-A'] = h})",
        "local r = request.load() for i = 1, 1e9 do r:params('p' .. i, 'x') end",
        "local long = ('x'):rep(1e5) while true do pcall(custom_error, long) end",
        "local f = function(...) return ... end f(unpack({}, 1, 1e7))",
        "local function f() return 1 + f() end f()",
        "local function f() pcall(f) end f() error('back')",
        "local function f() local g = ('a'):gsub('.', f) end f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
        "local t = {} for i = 1, 1e4 do t = {t} end luaTable.new():set('t', t)",
        "return ('a'):rep(1e6):match(('a?'):rep(1e5))",
        "return loadstring(('('):rep(1e5))()",
        "local t = {} for i = 1, 300 do t[i] = '(a)' end return ('a'):rep(300):match(table.concat(t))",
    ];
    for script in greedy {
        let pipe = proxy(&open("pre", script));
        let mut request = request();
        request.deadline = Instant::now() + Duration::from_secs(120);
        let failure = pre(&*pipe, &mut request).await.unwrap_err();
        assert!(matches!(failure.kind, Kind::Script), "{script}: {failure}");
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let tree = proxy(&code(
        "post",
        "local d = response.load():data() d:set('self', d)",
    ));
    assert!(post(&*tree, "{}").await.is_err());
}

#[tokio::test]
async fn invalid_scripts_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("good.lua"), "function add(a,b) return a+b end").unwrap();
    std::fs::write(path("bad.lua"), "x = 1\nx = = 2\n").unwrap();
    let cases = [
        (
            code("pre", "x = \nthis is not lua"),
            "/pre",
            "pre-script:L2",
        ),
        (code("post", "if x then"), "/post", "post-script:L1"),
        (
            block(&[("sources", serde_json::json!([path("no.lua")]))]),
            "/sources/0",
            "no such file or directory",
        ),
        (
            block(&[(
                "sources",
                serde_json::json!([path("good.lua"), path("bad.lua")]),
            )]),
            "/sources/1",
            "bad.lua:L2",
        ),
        (
            block(&[
                ("sources", serde_json::json!([path("good.lua")])),
                ("md5", serde_json::json!({ path("good.lua"): "00" })),
            ]),
            "/md5/",
            "714ab77a16af31e6323f5e305e4ee1ea",
        ),
        (code("sources", "x.lua"), "/sources", "a list of strings"),
        (block(&[("live", "yes".into())]), "/live", "true or false"),
    ];
    for (block, place, words) in cases {
        let mut file = File::new(&block);
        assert!(matches!(file.endpoint(&PROXY, "/m"), EndpointPart::Nothing));
        assert!(matches!(file.service(&SERVICE), ServicePart::Nothing));
        let found = file.findings();
        assert!(file.config_errors() > 0, "{block}");
        assert!(found.contains(place) && found.contains(words), "{found}");
    }
    let mut idle = File::new(r#"{"allow_open_libs": true}"#);
    assert!(matches!(idle.endpoint(&PROXY, "/m"), EndpointPart::Nothing));
    assert_eq!(idle.config_errors(), 0);
}

#[tokio::test]
async fn live_sources_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.lua");
    std::fs::write(&path, "function v() return 1 end").unwrap();
    let pipe = proxy(&block(&[
        ("sources", serde_json::json!([path])),
        ("live", true.into()),
        ("post", "response.load():data():set('v', v())".into()),
    ]));
    assert_eq!(post(&*pipe, "{}").await.unwrap(), r#"{"v":1}"#);
    std::fs::write(&path, "function v() return 2 end").unwrap();
    assert_eq!(post(&*pipe, "{}").await.unwrap(), r#"{"v":2}"#);
    std::fs::write(&path, "\nfunction v( return 2 end").unwrap();
    let failure = post(&*pipe, "{}").await.unwrap_err();
    assert!(failure.text.contains("live.lua:L2"), "{failure}");
    std::fs::remove_file(&path).unwrap();
    let failure = post(&*pipe, "{}").await.unwrap_err();
    assert!(
        failure
            .text
            .starts_with("lua: unable to load required source")
    );
}

#[tokio::test]
async fn files_are_loaded_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("m.lua"),
        "local m = { name = ... } n = (n or 0) + 1 return m",
    )
    .unwrap();
    std::fs::write(folder.path().join("bytes.lua"), "\u{1b}Lua").unwrap();
    let dir = folder.path().display();
    let setup = format!("package.path = '{dir}/?.lua'");
    let run = async |code_after: &str| {
        let pipe = proxy(&code("post", &format!("{setup} {code_after}")));
        post(&*pipe, "{}").await
    };
    let twice = "local m = require('m') require('m') response.load():data():set('m', m.name .. n)";
    assert_eq!(run(twice).await.unwrap(), r#"{"m":"m1"}"#);
    let by_path = format!("dofile('{dir}/m.lua') response.load():data():set('n', n)");
    assert_eq!(run(&by_path).await.unwrap(), r#"{"n":1}"#);
    let missing = run("require('no.such')").await.unwrap_err();
    assert!(missing.text.contains("no/such.lua"), "{missing}");
    let compiled = run(&format!("dofile('{dir}/bytes.lua')"))
        .await
        .unwrap_err();
    assert!(compiled.text.contains("precompiled"), "{compiled}");
    let evaluated = "response.load():data():set('v', assert(loadstring('return 1 + 1'))())";
    assert_eq!(run(evaluated).await.unwrap(), r#"{"v":2}"#);
}
