//! Bounds of scripts, errors of scripts, and sources.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::{block, code, open, post, pre, proxy, request, shown};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::lua::{PROXY, SERVICE};
use crate::ext::testing::File;
use crate::runtime::failure::{Failure, Guard, Kind};
use crate::runtime::pipe::PipeStep;

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
        assert_eq!(failure.kind, Kind::Guarded(Guard::Script));
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

/// Scripts that never end, or exhaust memory or the stack: the request fails, the process survives, and others
/// continue.
/// One long copy is one instruction: it must leave the worker before it begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn long_copies_do_not_block_the_only_worker() {
    let copies = [
        "for i = 1, 30 do local s = ('a'):rep(1e7) end",
        "local s = ('a'):rep(1e7) for i = 1, 30 do local t = s:sub(2) end",
        "local s = ('a'):rep(1e7) for i = 1, 30 do local t = s:upper() end",
        "local s = 'x = ' .. ('1+'):rep(4e5) .. '1' for i = 1, 2 do loadstring(s) end",
    ];
    for script in copies {
        // A busy machine may delay one of the runs. A copy that blocks the worker delays all of them.
        let mut runs = Vec::new();
        while !runs.iter().any(|(worst, all)| *worst < *all / 2) {
            assert!(runs.len() < 5, "{script}: {runs:?}");
            runs.push(longest_wait(script).await);
        }
    }
}

/// The longest time that another task waited for the worker while `script` ran, and the time of the script.
async fn longest_wait(script: &'static str) -> (Duration, Duration) {
    let work = tokio::spawn(async move {
        let pipe = proxy(&open("pre", script));
        let mut request = request();
        request.deadline = Instant::now() + Duration::from_secs(60);
        let began = Instant::now();
        pre(&*pipe, &mut request).await.unwrap();
        began.elapsed()
    });
    let mut worst = Duration::ZERO;
    while !work.is_finished() {
        let asked = Instant::now();
        tokio::spawn(async {}).await.unwrap();
        worst = worst.max(asked.elapsed());
    }
    (worst, work.await.unwrap())
}

/// Lua calls finalizers while it collects garbage, where the instruction hook does not run.
#[tokio::test]
async fn scripts_cannot_install_finalizers() {
    for script in [
        "local p = newproxy(true) getmetatable(p).__gc = function() error('ran') end p = nil",
        "local p = newproxy(newproxy(true)) getmetatable(p).__gc = function() error('ran') end p = nil",
        "local f = io.tmpfile() getmetatable(f).__gc = function() RAN = true end f = nil",
        "getmetatable(request.load()).__gc = function() RAN = true end",
        "getmetatable(luaTable.new()).__gc = function() RAN = true end",
    ] {
        let script = format!(
            "(function() pcall(function() {script} end) collectgarbage() return RAN end)()"
        );
        assert_eq!(shown(open, &script).await, "nil", "{script}");
    }
    let proxies =
        "(function() local p = newproxy(true) getmetatable(p).__index = {a = 7} return p.a end)()";
    assert_eq!(shown(open, proxies).await, "7");
}

#[tokio::test]
async fn code_that_is_too_long_is_not_loaded() {
    let long = "select(2, loadstring(('-'):rep(2e6)))";
    assert_eq!(shown(open, long).await, "the text is too long to be loaded");
    let blanks = "loadstring('return 1 +' .. (' '):rep(5e5) .. '1')()";
    assert_eq!(shown(open, blanks).await, "2");
}

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
        "local s = ('a'):rep(1e6) for i = 1, 1e9 do local t = s .. i end",
        "local s = ('a'):rep(1e6) for i = 1, 1e9 do local t = s:sub(2) end",
    ];
    for script in endless {
        let pipe = proxy(&open("pre", script));
        let mut request = request();
        request.deadline = Instant::now() + Duration::from_millis(60);
        let began = Instant::now();
        let failure = pre(&*pipe, &mut request).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Deadline, "{script}: {failure}");
        assert!(began.elapsed() < Duration::from_secs(20), "{script}");
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
        "local r = request.load() for i = 1, 1001 do r:headers('X-' .. i, 'x') end",
        "local l = {} for i = 1, 1001 do l[i] = 'x' end request.load():headerList('X-A', l)",
        "request.load():path(('x'):rep(1e5))",
        "request.load():query('a=' .. ('x'):rep(1e5))",
        "request.load():url('http://localhost/' .. ('x'):rep(1e5))",
        "request.load():method(('x'):rep(1e5))",
        "request.load():params('a', ('x'):rep(1e5))",
        "local r, long = request.load(), ('x'):rep(5e4) for i = 1, 10 do r:params('p' .. i, long) end",
        "return (('x'):rep(1e5):gsub('.*', ('%0'):rep(1e5)))",
        "local d = luaTable.new() while true do d:set('k' .. #tostring(d), luaTable.new()) end",
        "local t = {} for i = 1, 6e5 do t[i] = i end luaTable.new():set('t', {t})",
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
        assert_eq!(
            failure.kind,
            Kind::Guarded(Guard::Script),
            "{script}: {failure}"
        );
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    // A message is copied several times on its way to the log.
    for long in [
        "error(('x'):rep(1e7))",
        "assert(false, ('x'):rep(1e7))",
        "assert(io.open(('x'):rep(1e6)))",
        "coroutine.wrap(function() error(('x'):rep(1e7)) end)()",
        "error(setmetatable({}, { __tostring = function() return ('x'):rep(1e6) end }))",
        "package.path = ('?;'):rep(100) require(('m'):rep(1e3))",
        "custom_error(('x'):rep(1e6))",
    ] {
        let failure = pre(&*proxy(&open("pre", long)), &mut request()).await;
        let text = failure.unwrap_err().text;
        let length = text.len();
        assert!((65_536..70_000).contains(&length), "{long}: {length}");
    }
    for (script, told) in [
        (
            "require(('m'):rep(1e6))",
            "the name of the module is too long",
        ),
        (
            "dofile(('m'):rep(1e6))",
            "cannot open the file: its name is too long",
        ),
        ("luaTable.new():set(1)", "need arguments"),
    ] {
        let failure = pre(&*proxy(&open("pre", script)), &mut request()).await;
        let text = failure.unwrap_err().text;
        assert_eq!(text, format!("{told} (pre-script:L1)"));
    }
    let tree = proxy(&code(
        "post",
        "local d = response.load():data() d:set('self', d)",
    ));
    assert!(post(&*tree, "{}").await.is_err());
}

/// Only the message in the log is cut, not the body of the response.
#[tokio::test]
async fn a_long_custom_error_is_sent_as_it_is() {
    for script in [
        "custom_error(('x'):rep(1e6), 409)",
        "local _, e = pcall(custom_error, ('x'):rep(1e6), 409) error(e)",
        "local _, e = pcall(custom_error, ('\\255'):rep(1e6), 409) error(e)",
    ] {
        let failure = pre(&*proxy(&open("pre", script)), &mut request()).await;
        let failure = failure.unwrap_err();
        let is_invalid = script.contains("255");
        let length = if is_invalid { 3_000_000 } else { 1_000_000 };
        assert_eq!(failure.body.unwrap().0.len(), length, "{script}");
        assert!(failure.text.len() <= 65_536, "{}", failure.text.len());
    }
    let trace = "#debug.traceback(('x'):rep(1e6)) > 1e6";
    assert_eq!(shown(open, trace).await, "true");
    let source = "#loadstring('return debug.getinfo(1).source', ('x'):rep(1e6))()";
    assert_eq!(shown(open, source).await, "65536");
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
        (
            open("post", "\nlocal c = channel.make(1) c:send(1)"),
            "/post",
            "channel.make does not exist here (post-script:L2)",
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
