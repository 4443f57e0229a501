//! Scripts without network access.

mod limits;
mod nul;
mod requests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

use super::{BACKEND, ENDPOINT, PROXY};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::testing::{File, head};
use crate::runtime::failure::Failure;
use crate::runtime::json::{Depth, Style, parse, to_bytes};
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep};
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
        peer: None,
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
        held: Default::default(),
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
async fn a_missing_key_reads_as_no_value() {
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
        "JSON cannot contain this number (post-script:L1)"
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
    assert_eq!(
        shown(open, "string.format('%v|%t|%5v|%%v|%d', 1, true, nil, 7)").await,
        "1|true|  nil|%v|7"
    );
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

/// gopher-lua prints whole numbers with all digits, and others with as many as are needed.
#[tokio::test]
async fn texts_of_numbers_have_all_digits() {
    for (expression, value) in [
        ("string.format('%s', 1234567890123456)", "1234567890123456"),
        (
            "('/users/%s'):format(1234567890123456)",
            "/users/1234567890123456",
        ),
        (
            "string.format('%v %d', 123456789012345, 7)",
            "123456789012345 7",
        ),
        (
            "string.format('%5s|%-4s|%.2f', 7, 1.5, 1/3)",
            "    7|1.5 |0.33",
        ),
        ("string.format('%s', 1/3)", "0.3333333333333333"),
        ("string.format('%.4s', 1234567890123456)", "1234"),
        (
            "string.format('%q', 1234567890123456)",
            "\"1234567890123456\"",
        ),
        ("string.format(1234567890123456)", "1234567890123456"),
        ("string.format('%s %s', 2^53, nil)", "9007199254740992 nil"),
        (
            "table.concat({1234567890123456, 'x', 1}, ',')",
            "1234567890123456,x,1",
        ),
        (
            "table.concat({'a', 'b', 1e15, 2}, 1e15, 2, 3)",
            "b10000000000000001000000000000000",
        ),
        ("table.concat({'a', 'b'}, '-', 3)", ""),
        ("table.concat({'a', 'b', 'c'}, '-', '2', 2.9)", "b"),
        ("string.len(1234567890123456)", "16"),
        ("string.sub(1234567890123456, -3)", "456"),
        ("string.byte(1234567890123456, 2)", "50"),
        ("string.rep(1234567890123456, 1)", "1234567890123456"),
        ("string.reverse(1234567890123456)", "6543210987654321"),
        ("string.upper(1234567890123456)", "1234567890123456"),
        ("string.find(1234567890123456, '456', 5)", "14"),
        ("string.match(1234567890123456, '%d+')", "1234567890123456"),
        (
            "string.gmatch(1234567890123456, '%d+')()",
            "1234567890123456",
        ),
        (
            "(string.gsub(1234567890123456, '^1', 12345678901234567))",
            "12345678901234568234567890123456",
        ),
    ] {
        assert_eq!(shown(open, expression).await, value, "{expression}");
    }
}

#[tokio::test]
async fn caught_messages_have_no_place_in_our_own_code() {
    for (expression, message) in [
        (
            "select(2, pcall(function() assert(false, 'boo') end))",
            "post-script:1: boo",
        ),
        (
            "select(2, pcall(function() assert(nil) end))",
            "post-script:1: assertion failed!",
        ),
        ("select(2, pcall(assert, false, 'boo'))", "boo"),
        (
            "select(2, pcall(assert))",
            "bad argument #1 to 'assert' (value expected)",
        ),
        (
            "select(2, pcall(table.concat, {'a', {}}))",
            "invalid value (table) at index 2 in table for 'concat'",
        ),
        (
            "select(2, pcall(table.sort, {1, {}}))",
            "attempt to compare table with number",
        ),
        ("select('#', assert(1, nil, 3))", "3"),
    ] {
        assert_eq!(shown(open, expression).await, message, "{expression}");
    }
    let failed = shown(open, "assert(false, 'boo')").await;
    assert_eq!(failed, "! boo (post-script:L1)");
}
