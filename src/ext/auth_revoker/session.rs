//! One session of Go's `net/rpc`, without the socket.

use super::gob::{Decoder, GobError, Value, write_run, write_uint};
use super::revocation_list::{NotRevoked, RevocationAccess};

/// The state of a client: the types that it described, and the types that we described to it.
#[derive(Debug, Default)]
pub(super) struct Session {
    decoder: Decoder,
    /// The call whose argument comes next.
    call: Option<Call>,
    knows_response: bool,
    knows_count: bool,
    knows_checks: bool,
}

#[derive(Debug)]
struct Call {
    method: Vec<u8>,
    number: u64,
}

/// The result of a call.
enum Outcome {
    Added(u64),
    Checked(Vec<bool>),
    Failed(&'static str),
}

/// As messages of Go's server, type 64: `Response{ServiceMethod string, Seq uint, Error string}`.
const RESPONSE: &[u8] =
    b"\xff\x7f\x03\x01\x01\x08Response\x01\xff\x80\x00\x01\x03\x01\x0dServiceMethod\x01\x0c\x00\x01\x03Seq\x01\x06\x00\x01\x05Error\x01\x0c\x00\x00\x00";
/// Type 65: `AddOutput{Count int}`.
const COUNT: &[u8] =
    b"\xff\x81\x03\x01\x01\x09AddOutput\x01\xff\x82\x00\x01\x01\x01\x05Count\x01\x04\x00\x00\x00";
/// Type 66: `CheckOutput{Checks []bool}`.
const CHECKS: &[u8] =
    b"\xff\x83\x03\x01\x01\x0bCheckOutput\x01\xff\x84\x00\x01\x01\x01\x06Checks\x01\xff\x86\x00\x00\x00";
/// Type 67: `[]bool`.
const BOOLS: &[u8] = b"\xff\x85\x02\x01\x01\x06[]bool\x01\xff\x86\x00\x01\x02\x00\x00";

impl Session {
    /// Handles one message of the client, without its length, and appends the reply.
    ///
    /// # Errors
    /// The stream is invalid and cannot be decoded further.
    pub(super) fn message(
        &mut self,
        message: &[u8],
        revocations: &RevocationAccess,
        out: &mut Vec<u8>,
    ) -> Result<(), GobError> {
        let Some(value) = self.decoder.message(message)? else {
            return Ok(());
        };
        let Some(call) = self.call.take() else {
            self.call = Some(call(&value)?);
            return Ok(());
        };
        let outcome = outcome(&call.method, &value, revocations);
        self.response(&call, &outcome, out);
        Ok(())
    }

    fn response(&mut self, call: &Call, outcome: &Outcome, out: &mut Vec<u8>) {
        introduce(&mut self.knows_response, &[RESPONSE], out);
        let mut head = vec![0xff, 0x80];
        let mut step = 1;
        if !call.method.is_empty() {
            write_uint(&mut head, step);
            write_run(&mut head, &call.method);
            step = 0;
        }
        step += 1;
        if call.number != 0 {
            write_uint(&mut head, step);
            write_uint(&mut head, call.number);
            step = 0;
        }
        if let Outcome::Failed(why) = outcome {
            write_uint(&mut head, step + 1);
            write_run(&mut head, why.as_bytes());
        }
        head.push(0);
        write_run(out, &head);
        match outcome {
            Outcome::Checked(checks) => {
                introduce(&mut self.knows_checks, &[CHECKS, BOOLS], out);
                let mut body = vec![0xff, 0x84];
                if !checks.is_empty() {
                    body.push(1);
                    write_uint(&mut body, checks.len() as u64);
                    body.extend(checks.iter().map(|check| u8::from(*check)));
                }
                body.push(0);
                write_run(out, &body);
            }
            // A client reads a body after an error too, and discards it.
            Outcome::Added(_) | Outcome::Failed(_) => {
                introduce(&mut self.knows_count, &[COUNT], out);
                let mut body = vec![0xff, 0x82];
                if let Outcome::Added(count @ 1..) = outcome {
                    body.push(1);
                    // The sign is the lowest bit.
                    write_uint(&mut body, count << 1);
                }
                body.push(0);
                write_run(out, &body);
            }
        }
    }
}

fn introduce(known: &mut bool, types: &[&[u8]], out: &mut Vec<u8>) {
    if !std::mem::replace(known, true) {
        for described in types {
            write_run(out, described);
        }
    }
}

/// `Request{ServiceMethod string, Seq uint}`.
fn call(request: &Value) -> Result<Call, GobError> {
    if !matches!(request, Value::Struct(_)) {
        return Err(GobError::Type);
    }
    Ok(Call {
        method: match request.field("ServiceMethod") {
            Some(Value::Bytes(method)) => method.clone(),
            _ => Vec::new(),
        },
        number: match request.field("Seq") {
            Some(Value::Uint(number)) => *number,
            _ => 0,
        },
    })
}

fn outcome(method: &[u8], argument: &Value, revocations: &RevocationAccess) -> Outcome {
    let elements = || {
        let elements = match argument.field("Elems") {
            Some(Value::List(elements)) => elements.as_slice(),
            _ => &[],
        };
        elements.iter().filter_map(|element| match element {
            Value::Bytes(bytes) => Some(bytes.as_slice()),
            _ => None,
        })
    };
    match method {
        b"BloomfilterRPC.Add" => {
            let added = elements().try_for_each(|element| revocations.add(element));
            match added {
                Ok(()) => Outcome::Added(elements().count() as u64),
                Err(error) => Outcome::Failed(match error {
                    NotRevoked::NoList => "bloomfilter: no list of revoked tokens is in use",
                    NotRevoked::Full => "bloomfilter: too many logouts are remembered",
                    NotRevoked::NotTold(_) => {
                        "bloomfilter: the process that takes over was not told: call again"
                    }
                }),
            }
        }
        b"BloomfilterRPC.Check" if !revocations.is_open() => {
            Outcome::Failed("bloomfilter: no list of revoked tokens is in use")
        }
        b"BloomfilterRPC.Check" => Outcome::Checked(
            elements()
                .map(|element| revocations.contains(element))
                .collect(),
        ),
        b"BloomfilterRPC.Union" => {
            Outcome::Failed("bloomfilter: this gateway does not accept complete filters")
        }
        _ => Outcome::Failed("rpc: can't find method"),
    }
}
