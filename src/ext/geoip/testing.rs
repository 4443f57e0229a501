//! A small writer of MaxMind databases (format 2.0), for tests: IPv6 trees with records of 24 bits, and no pointers.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

const ROOT: usize = 0;

/// A database of type `kind` with a record for each network. Later networks must not contain earlier ones.
pub(crate) fn database(kind: &str, records: &[(&str, Value)]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut nodes: Vec<[Slot; 2]> = vec![[Slot::Empty; 2]];
    for (network, record) in records {
        let offset = data.len();
        value(record, "", &mut data);
        insert(&mut nodes, network.parse().unwrap(), offset);
    }
    let count = nodes.len();
    let mut bytes = Vec::new();
    for node in &nodes {
        for slot in node {
            let number = match slot {
                Slot::Empty => count,
                Slot::Node(index) => *index,
                Slot::Data(offset) => count + 16 + offset,
            };
            bytes.extend(&u32::try_from(number).unwrap().to_be_bytes()[1..]);
        }
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = json!({
        "node_count": count, "record_size": 24, "ip_version": 6, "database_type": kind,
        "languages": ["de", "en"], "binary_format_major_version": 2,
        "binary_format_minor_version": 0, "build_epoch": 1, "description": {"en": "test"}
    });
    value(&metadata, "", &mut bytes);
    bytes
}

#[derive(Clone, Copy)]
enum Slot {
    Empty,
    Node(usize),
    Data(usize),
}

fn insert(nodes: &mut Vec<[Slot; 2]>, network: IpNet, offset: usize) {
    // IPv4 addresses are in the first 2^32 addresses of the tree.
    let (address, bits) = match network.network() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 96 + network.prefix_len()),
        IpAddr::V6(v6) => (u128::from(v6), network.prefix_len()),
    };
    let mut at = ROOT;
    for depth in 0..bits {
        let side = usize::from(address >> (127 - depth) & 1 == 1);
        if depth + 1 == bits {
            nodes[at][side] = Slot::Data(offset);
            return;
        }
        at = match nodes[at][side] {
            Slot::Node(index) => index,
            _ => {
                nodes.push([Slot::Empty; 2]);
                let index = nodes.len() - 1;
                nodes[at][side] = Slot::Node(index);
                index
            }
        };
    }
}

/// The types that readers expect for these members. `name:u16` and the like have another one.
fn number(name: &str, number: &serde_json::Number, out: &mut Vec<u8>) {
    let (name, kind) = name.split_once(':').unwrap_or((name, name));
    let kind = match kind {
        "u16" => "metro_code",
        "u32" => "geoname_id",
        "f64" => "latitude",
        // A pointer to nowhere.
        "" => return out.extend([0x38, 0xff, 0xff, 0xff, 0xff]),
        "f32" => {
            control(15, 4, out);
            let short: f32 = number.to_string().parse().unwrap();
            return out.extend(short.to_be_bytes());
        }
        _ => name,
    };
    match kind {
        "latitude" | "longitude" => {
            control(3, 8, out);
            out.extend(number.as_f64().unwrap().to_be_bytes());
        }
        "record_size"
        | "ip_version"
        | "accuracy_radius"
        | "metro_code"
        | "binary_format_major_version"
        | "binary_format_minor_version" => {
            control(5, 2, out);
            out.extend(
                u16::try_from(number.as_u64().unwrap())
                    .unwrap()
                    .to_be_bytes(),
            );
        }
        "build_epoch" => {
            control(9, 8, out);
            out.extend(number.as_u64().unwrap().to_be_bytes());
        }
        _ => {
            control(6, 4, out);
            out.extend(
                u32::try_from(number.as_u64().unwrap())
                    .unwrap()
                    .to_be_bytes(),
            );
        }
    }
}

fn value(value: &Value, name: &str, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            control(2, text.len(), out);
            out.extend(text.as_bytes());
        }
        Value::Number(written) => number(name, written, out),
        Value::Bool(yes) => control(14, usize::from(*yes), out),
        Value::Object(members) => {
            control(7, members.len(), out);
            for (name, member) in members {
                let written = name.split(':').next().unwrap_or_default();
                control(2, written.len(), out);
                out.extend(written.as_bytes());
                self::value(member, name, out);
            }
        }
        Value::Array(items) => {
            control(11, items.len(), out);
            for item in items {
                self::value(item, name, out);
            }
        }
        Value::Null => panic!("no such type"),
    }
}

/// The control byte: the type, and a size below 285.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more) = match size {
        0..=28 => (u8::try_from(size).unwrap(), None),
        _ => (29, Some(u8::try_from(size - 29).unwrap())),
    };
    match kind {
        0..=7 => out.push(kind << 5 | low),
        _ => out.extend([low, kind - 7]),
    }
    out.extend(more);
}
