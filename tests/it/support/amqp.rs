//! A broker of AMQP 0-9-1 that does what a test says, and otherwise what RabbitMQ would do.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a client has sent.
pub enum Heard {
    /// A method of a channel, without its arguments.
    Method(u16, (u16, u16)),
    /// A whole message, and its number on the channel.
    Message(u16, u64),
}

/// A connection of a client.
pub struct Wire {
    stream: Mutex<TcpStream>,
    messages: AtomicU64,
}

impl Wire {
    pub fn say(&self, bytes: &[u8]) {
        // The client may have closed the connection.
        let _ = self.stream.lock().unwrap().write_all(bytes);
    }
}

/// Returns whether the test itself has responded.
type Script = dyn Fn(&Wire, &Heard) -> bool + Send + Sync;

pub struct AmqpStub {
    port: u16,
    wires: Arc<Mutex<Vec<Arc<Wire>>>>,
    /// All methods, in order.
    heard: Arc<Mutex<Vec<(u16, u16)>>>,
}

impl AmqpStub {
    pub fn start(script: impl Fn(&Wire, &Heard) -> bool + Send + Sync + 'static) -> AmqpStub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = AmqpStub {
            port: listener.local_addr().unwrap().port(),
            wires: Arc::default(),
            heard: Arc::default(),
        };
        let (wires, heard) = (Arc::clone(&stub.wires), Arc::clone(&stub.heard));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let wire = Arc::new(Wire {
                    stream: Mutex::new(stream.try_clone().unwrap()),
                    messages: AtomicU64::new(0),
                });
                wires.lock().unwrap().push(Arc::clone(&wire));
                let (heard, script) = (Arc::clone(&heard), Arc::clone(&script));
                // It ends with the connection.
                thread::spawn(move || drop(serve(stream, &wire, &heard, &*script)));
            }
        });
        stub
    }

    pub fn url(&self) -> String {
        format!("amqp://u:geheim@127.0.0.1:{}", self.port)
    }

    /// Says this on all connections.
    pub fn say(&self, bytes: &[u8]) {
        for wire in &*self.wires.lock().unwrap() {
            wire.say(bytes);
        }
    }

    pub fn connections(&self) -> usize {
        self.wires.lock().unwrap().len()
    }

    /// How often this method was called.
    pub fn count(&self, method: (u16, u16)) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|known| **known == method).count()
    }
}

fn serve(
    mut stream: TcpStream,
    wire: &Wire,
    heard: &Mutex<Vec<(u16, u16)>>,
    script: &Script,
) -> io::Result<()> {
    stream.read_exact(&mut [0; 8])?;
    wire.say(&method(
        0,
        (10, 10),
        b"\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US",
    ));
    let mut left = 0;
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head)?;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; size as usize + 1];
        stream.read_exact(&mut payload)?;
        assert_eq!(payload.pop(), Some(0xce), "the end of a frame");
        match head[0] {
            1 => {
                let word = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
                let called = (word(0), word(2));
                heard.lock().unwrap().push(called);
                if !script(wire, &Heard::Method(channel, called)) {
                    respond(wire, channel, called, &payload[4..]);
                }
                continue;
            }
            2 => left = u64::from_be_bytes(payload[4..12].try_into().unwrap()),
            3 => left -= payload.len() as u64,
            _ => continue,
        }
        if left == 0 {
            let number = wire.messages.fetch_add(1, Ordering::SeqCst) + 1;
            if !script(wire, &Heard::Message(channel, number)) {
                wire.say(&confirmed(channel, number));
            }
        }
    }
}

/// The response of a broker that accepts everything.
fn respond(wire: &Wire, channel: u16, (class, number): (u16, u16), arguments: &[u8]) {
    let answer: &[u8] = match (class, number) {
        // At most 100 channels, frames of 128 KiB, a heartbeat each minute.
        (10, 11) => return wire.say(&method(0, (10, 30), b"\0\x64\0\x02\0\0\0\x3c")),
        (50, 10) => {
            let name = &arguments[2..3 + usize::from(arguments[2])];
            return wire.say(&method(channel, (50, 11), &[name, &[0; 8]].concat()));
        }
        (60, 20) => b"\x01c",
        (20, 10) => b"\0\0\0\0",
        (60, 30) => arguments.split_last().map_or(b"\0", |(_, tag)| tag),
        (10, 40) => b"\0",
        (20, 40) | (40, 10) | (50, 20) | (60, 10) | (85, 10) | (10, 50) => b"",
        _ => return,
    };
    wire.say(&method(channel, (class, number + 1), answer));
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xce);
    bytes
}

pub fn method(channel: u16, (class, number): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(number.to_be_bytes());
    payload.extend(arguments);
    frame(1, channel, &payload)
}

/// The confirmation of a message.
pub fn confirmed(channel: u16, number: u64) -> Vec<u8> {
    let mut arguments = number.to_be_bytes().to_vec();
    arguments.push(0);
    method(channel, (60, 80), &arguments)
}

/// `connection.blocked` with this reason.
pub fn blocked(why: &str) -> Vec<u8> {
    let mut arguments = vec![u8::try_from(why.len()).unwrap()];
    arguments.extend(why.as_bytes());
    method(0, (10, 60), &arguments)
}

pub fn unblocked() -> Vec<u8> {
    method(0, (10, 61), b"")
}

/// A message with this content type.
pub fn delivery(channel: u16, tag: u64, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut arguments = b"\x01c".to_vec();
    arguments.extend(tag.to_be_bytes());
    arguments.extend([0, 0, 0]);
    let mut header = vec![0, 60, 0, 0];
    header.extend((body.len() as u64).to_be_bytes());
    header.extend([0x80, 0, u8::try_from(content_type.len()).unwrap()]);
    header.extend(content_type.as_bytes());
    [
        method(channel, (60, 60), &arguments),
        frame(2, channel, &header),
        frame(3, channel, body),
    ]
    .concat()
}
