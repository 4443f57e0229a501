//! The calls that the block makes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::BACKEND;
use crate::ext::extension::BackendPart;
use crate::ext::testing::{File, pipe_request};

#[tokio::test]
async fn values_of_the_client_cannot_change_the_envelope() {
    let template =
        STANDARD.encode("<a n='{{ .req_params.Id }}'>{{ .req_body.x }}{{ \"<b/>\" | safe }}</a>");
    let mut file = File::new(&format!(r#"{{"template": "{template}"}}"#));
    let BackendPart::Pipe(step) = file.backend(&BACKEND, "{}") else {
        panic!("{}", file.findings());
    };
    let body = br#"{"x": "</a><admin>1&2</admin>"}"#;
    let mut request = pipe_request(Bytes::from_static(body));
    request.params.0.push(("id".into(), "1' x='2".to_owned()));
    step.before(&mut request).await.unwrap();
    let want = "<a n='1&#39; x=&#39;2'>&lt;/a&gt;&lt;admin&gt;1&amp;2&lt;/admin&gt;<b/></a>";
    assert_eq!(request.body, want);
    assert_eq!(request.headers["content-type"], "text/xml");
}
