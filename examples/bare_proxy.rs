//! A bare Pingora proxy with nothing in its hooks: the floor that the gateway is measured against.
//!
//! `LISTEN` and `UPSTREAM` are addresses, `T` the number of worker threads. `/__health` is answered here, everything
//! else goes upstream as `/small`.

use async_trait::async_trait;
use bytes::Bytes;
use http::Uri;
use pingora::prelude::{
    HttpPeer, Opt, ProxyHttp, RequestHeader, ResponseHeader, Result, Server, Session,
    http_proxy_service,
};
use pingora::server::configuration::ServerConf;

struct Bare {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> Result<bool> {
        if session.req_header().uri.path() != "/__health" {
            return Ok(false);
        }
        let body = Bytes::from_static(br#"{"status":"ok"}"#);
        let mut head = ResponseHeader::build(200, Some(2))?;
        head.insert_header("Content-Type", "application/json")?;
        head.insert_header("Content-Length", body.len())?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(body), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(
            self.upstream.as_str(),
            false,
            String::new(),
        )))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        _ctx: &mut (),
    ) -> Result<()> {
        request.set_uri(Uri::from_static("/small"));
        Ok(())
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn main() {
    let threads = variable("T", "1").parse().unwrap_or(1);
    // Enough idle connections upstream that none is ever closed for room.
    let conf = ServerConf {
        threads,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    let bare = Bare {
        upstream: variable("UPSTREAM", "127.0.0.1:8000"),
    };
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(&variable("LISTEN", "127.0.0.1:8080"));
    server.add_service(service);
    server.run_forever();
}
