//! Limits on the cost of validation.

use super::*;

#[test]
fn no_response_occupies_an_expression_for_long() {
    let items: Vec<Value> = (0..2000)
        .map(|n| json!({"n": n, "s": "x".repeat(50)}))
        .collect();
    let backend = Stub::with(
        &json!([{"path": "/large", "headers": {"Content-Type": "application/json"}, "body": {"items": items}}]).to_string(),
    );
    let cube = "resp_data.items.all(a, resp_data.items.all(b, resp_data.items.all(c, a != b || b != c || a == c)))";
    let once = "resp_data.items.all(a, has(a.n) && a.s.startsWith('x') && int(a.n) >= 0)";
    let endpoint = |path: &str, expression: &str| {
        json!({"endpoint": path, "timeout": "20s", "extra_config": {"validation/cel": [{"check_expr": expression}]},
            "backend": [{"url_pattern": "/large"}]})
    };
    let gateway = Gateway::start(
        &service(
            &backend,
            json!([endpoint("/cube", cube), endpoint("/once", once)]),
        )
        .to_string(),
    );
    assert_eq!(gateway.get("/once").status, 200);
    let start = Instant::now();
    assert_eq!(gateway.get("/cube").status, 500);
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

/// A body of 390 bytes, for a schema that refers to itself in each branch of an `anyOf`.
#[test]
fn a_filter_tree_costs_its_own_request_and_little_of_it() {
    let backend = backend();
    let operator = |name: &str| json!({"properties": {"op": {"const": name}, "args": {"items": {"$ref": "#"}}}, "required": ["op", "args"]});
    let schema = json!({"anyOf": [operator("and"), operator("or"), operator("not"),
        {"properties": {"field": {"type": "string"}}, "required": ["field"]}]});
    let mut file = service(
        &backend,
        json!([
            {"endpoint": "/filter", "method": "POST", "extra_config": {"validation/json-schema": schema},
                "backend": [{"url_pattern": "/echo", "method": "POST"}]},
            {"endpoint": "/good", "backend": [{"url_pattern": "/good"}]},
        ]),
    );
    file["extra_config"]["portcullis/server"] = json!({"threads": 1});
    file["timeout"] = "20s".into();
    let gateway = Gateway::start(&file.to_string());
    let tree = |inner: &str, depth: usize| {
        let (open, close) = (r#"{"op":"or","args":["#, "]}");
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let right = post(&gateway, "/filter", &tree(r#"{"field":"a"}"#, 18));
    assert_eq!(right.status, 200, "{}", gateway.output());
    let small = gateway.resident_kib();
    let bomb = tree(r#"{"op":1}"#, 18);
    assert!(bomb.len() < 400);
    std::thread::scope(|scope| {
        let bombs: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| post(&gateway, "/filter", &bomb)))
            .collect();
        for bomb in bombs {
            let response = bomb.join().unwrap();
            assert_eq!(response.status, 400, "{}", gateway.output());
            assert!(
                response.text().starts_with("- at ''"),
                "{}",
                response.text()
            );
        }
    });
    assert_eq!(gateway.get("/good").status, 200);
    let grown = gateway.resident_kib().saturating_sub(small);
    assert!(grown < 200 * 1024, "{grown} KiB");
}
