//! SRV records from a name server of the test's own.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use portcullis::upstream::{Client, DnsTable, HostSet, Settings};
use tokio::net::UdpSocket;

use crate::stub::{OPTIONS, Stub, get};

/// Answers each SRV question with these (priority, weight, port) on `localhost`, or with SERVFAIL once `down` is set.
async fn name_server(records: Vec<(u16, u16, u16)>, down: Arc<AtomicBool>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut question).await {
            let records: &[_] = if down.load(Ordering::SeqCst) {
                &[]
            } else {
                &records
            };
            let answer = respond(&question[..size], records);
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    port
}

fn respond(question: &[u8], records: &[(u16, u16, u16)]) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let mut answer = question[..2].to_vec();
    let flags: u16 = if records.is_empty() { 0x8182 } else { 0x8180 };
    answer.extend(flags.to_be_bytes());
    answer.extend(1_u16.to_be_bytes());
    answer.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(&question[12..name_end + 4]);
    for (priority, weight, port) in records {
        answer.extend([0xc0, 12]);
        answer.extend([0, 33, 0, 1, 0, 0, 0, 0]);
        answer.extend(17_u16.to_be_bytes());
        for number in [priority, weight, port] {
            answer.extend(number.to_be_bytes());
        }
        answer.extend(b"\x09localhost\x00");
    }
    answer
}

fn table(port: u16) -> Arc<DnsTable> {
    let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
    server.connections[0].port = port;
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().attempts = 1;
    Arc::new(DnsTable::with_resolver(builder.build().ok()))
}

#[tokio::test]
async fn calls_follow_srv_records_and_outlive_their_name_server() {
    let (a, b, worse) = (
        Stub::saying("a").await,
        Stub::saying("b").await,
        Stub::saying("worse").await,
    );
    let down = Arc::new(AtomicBool::new(false));
    let port = name_server(
        vec![
            (1, 20, a.address.port()),
            (1, 10, b.address.port()),
            (9, 10, worse.address.port()),
        ],
        Arc::clone(&down),
    )
    .await;
    let dns = table(port);
    let client = Client::new(Settings::default(), Arc::clone(&dns)).unwrap();
    let refresh = Duration::from_secs(1);
    let hosts = HostSet::service(&client, "_http._tcp.svc.test", "http", refresh);
    for _ in 0..6 {
        hosts.call(get("/"), &OPTIONS).await.unwrap();
    }
    let counts = [&a, &b, &worse].map(|stub| stub.seen().len());
    assert_eq!(counts, [4, 2, 0]);

    down.store(true, Ordering::SeqCst);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let keeper = tokio::spawn({
        let dns = Arc::clone(&dns);
        async move { dns.run(stopped).await }
    });
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(hosts.call(get("/"), &OPTIONS).await.is_ok());
    stop.send(true).unwrap();
    keeper.await.unwrap();
}

#[tokio::test]
async fn an_srv_name_without_records_has_no_hosts() {
    let dns = table(name_server(Vec::new(), Arc::default()).await);
    let client = Client::new(Settings::default(), dns).unwrap();
    let hosts = HostSet::service(&client, "_http._tcp.none.test", "http", Duration::ZERO);
    let error = hosts.call(get("/"), &OPTIONS).await.unwrap_err();
    assert_eq!(error.to_string(), "no hosts available");
}
