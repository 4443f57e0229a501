//! Clients that send too much, or wait forever.

use super::*;

/// Sends the same burst until the gateway closes the connection or enough was sent. Others must be served meanwhile.
pub(super) fn flood(burst: impl Fn(u32) -> Vec<u8>, bursts: u32) {
    let (_stub, gateway) = start();
    assert!(serves(&gateway));
    let mut connection = Connection::open(&gateway);
    let start = Instant::now();
    for i in 0..bursts {
        if connection.0.send(burst(i)).is_err() {
            break;
        }
        if i % (bursts / 4).max(1) == 0 {
            assert!(serves(&gateway), "others are not served");
        }
    }
    assert!(serves(&gateway), "others are not served afterwards");
    assert!(start.elapsed() < Duration::from_secs(60));
    assert!(gateway.ended().is_none());
    let memory = gateway.resident_kib();
    assert!(memory < 300 * 1024, "{memory} KiB");
}

#[test]
fn a_storm_of_resets_does_not_hurt_others() {
    let fields = block(&GET);
    flood(
        |i| {
            let stream = 2 * i + 1;
            let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            [
                frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields),
                reset,
            ]
            .concat()
        },
        5_000,
    );
}

#[test]
fn an_endless_head_does_not_hurt_others() {
    let part = block(&[("x-a", "0123456789012345678901234567890123456789")]).repeat(300);
    flood(
        |i| match i {
            0 => frame(HEADERS, END_STREAM, 1, &block(&GET)),
            _ => frame(CONTINUATION, 0, 1, &part),
        },
        4_000,
    );
}

#[test]
fn storms_of_small_frames_do_not_hurt_others() {
    flood(|_| frame(PING, 0, 0, &[0; 8]).repeat(100), 300);
    flood(|_| frame(SETTINGS, 0, 0, &[]).repeat(100), 300);
    let fields = block(&POST);
    flood(
        |i| match i {
            0 => frame(HEADERS, END_HEADERS, 1, &fields),
            _ => frame(DATA, 0, 1, &[]).repeat(100),
        },
        300,
    );
}

/// Reads until the gateway ends the connection; false if it sends nothing more before that.
pub(super) fn ends(connection: &mut Connection) -> bool {
    loop {
        match connection.next() {
            Ok((GOAWAY, ..)) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn connections_without_a_request_or_that_do_not_read_are_closed() {
    let stub = stub();
    let file = json!({
        "version": 3, "use_h2c": true, "idle_timeout": "1s", "write_timeout": "1s",
        "endpoints": [{
            "endpoint": "/get", "backend": [{ "host": [stub.url()], "url_pattern": "/get" }]
        }]
    });
    let gateway = Gateway::start(&file.to_string());
    let mut idle = Connection::open(&gateway);
    assert!(ends(&mut idle), "an idle connection stays");
    // INITIAL_WINDOW_SIZE 0: not one byte of a body may be sent.
    let mut deaf = Connection::open(&gateway);
    deaf.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).unwrap();
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/get"),
        (":authority", "a"),
    ];
    deaf.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))
        .unwrap();
    assert_eq!(deaf.outcome(1), Outcome::Ok);
    assert!(ends(&mut deaf), "an answer that nobody reads is kept");
}
