//! Go's `encoding/gob`, to the extent that `net/rpc` needs: every value can be decoded, a few can be encoded.
//!
//! A stream is a sequence of messages, each preceded by its length. A message either describes a type, under a
//! negative number, or contains a value of a type that was described before. See <https://pkg.go.dev/encoding/gob>.

use std::collections::HashMap;
use std::sync::Arc;

/// Why a message cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GobError {
    #[error("the message ends too early")]
    Short,
    #[error("bytes are left over")]
    Long,
    #[error("a number of more than eight bytes")]
    Number,
    #[error("a type that was not described, or cannot be read")]
    Type,
    #[error("a field that the type does not have")]
    Field,
    #[error("too deep, too many values or too many types")]
    TooMuch,
}

/// A value. Text is kept as bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// The fields with values other than zero.
    Struct(Vec<(Arc<str>, Value)>),
}

impl Value {
    /// A field of a struct.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(fields) => fields
                .iter()
                .find(|(known, _)| &**known == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }
}

const DEPTH: usize = 16;
/// The maximum number of values in a message, because each needs more memory than on the wire.
const VALUES: usize = 65_536;
const TYPES: usize = 256;
const FIELDS: usize = 64;

/// A type. Its components are referenced by number.
#[derive(Debug, Clone)]
enum Type {
    Bool,
    Int,
    Uint,
    Float,
    Bytes,
    /// A type with its own encoding, which is opaque bytes here.
    Opaque,
    Array(i64),
    Slice(i64),
    Map(i64, i64),
    Struct(Arc<[(Arc<str>, i64)]>),
}

// Go's numbers for its built-in types. The numbers for type descriptions are our own and cannot occur in a stream.
const BOOL: i64 = 1;
const INT: i64 = 2;
const UINT: i64 = 3;
const FLOAT: i64 = 4;
const BYTES: i64 = 5;
const STRING: i64 = 6;
const WIRE: i64 = i64::MIN;
const COMMON: i64 = WIRE + 1;
const ARRAY: i64 = WIRE + 2;
const SLICE: i64 = WIRE + 3;
const STRUCT: i64 = WIRE + 4;
const FIELD: i64 = WIRE + 5;
const FIELD_LIST: i64 = WIRE + 6;
const MAP: i64 = WIRE + 7;
const CODER: i64 = WIRE + 8;

/// Decodes the messages of one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    types: HashMap<i64, Type>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        let fields = |fields: &[(&str, i64)]| {
            Type::Struct(
                fields
                    .iter()
                    .map(|(name, of)| (Arc::from(*name), *of))
                    .collect(),
            )
        };
        let types = [
            (BOOL, Type::Bool),
            (INT, Type::Int),
            (UINT, Type::Uint),
            (FLOAT, Type::Float),
            (BYTES, Type::Bytes),
            (STRING, Type::Bytes),
            (COMMON, fields(&[("Name", STRING), ("Id", INT)])),
            (
                ARRAY,
                fields(&[("CommonType", COMMON), ("Elem", INT), ("Len", INT)]),
            ),
            (SLICE, fields(&[("CommonType", COMMON), ("Elem", INT)])),
            (
                STRUCT,
                fields(&[("CommonType", COMMON), ("Field", FIELD_LIST)]),
            ),
            (FIELD, fields(&[("Name", STRING), ("Id", INT)])),
            (FIELD_LIST, Type::Slice(FIELD)),
            (
                MAP,
                fields(&[("CommonType", COMMON), ("Key", INT), ("Elem", INT)]),
            ),
            (CODER, fields(&[("CommonType", COMMON)])),
            (
                WIRE,
                fields(&[
                    ("ArrayT", ARRAY),
                    ("SliceT", SLICE),
                    ("StructT", STRUCT),
                    ("MapT", MAP),
                    ("GobEncoderT", CODER),
                    ("BinaryMarshalerT", CODER),
                    ("TextMarshalerT", CODER),
                ]),
            ),
        ];
        Decoder {
            types: types.into(),
        }
    }
}

impl Decoder {
    /// Decodes one message, without its length. `None` if it described a type.
    ///
    /// # Errors
    /// The stream is invalid and cannot be decoded further.
    pub(super) fn message(&mut self, bytes: &[u8]) -> Result<Option<Value>, GobError> {
        let mut input = Input { bytes, values: 0 };
        let number = input.int()?;
        let value = match number {
            i64::MIN..0 => {
                let described = self.value(WIRE, &mut input, 0)?;
                self.describe(number.checked_neg().ok_or(GobError::Type)?, &described)?;
                None
            }
            _ => {
                let is_struct = matches!(self.types.get(&number), Some(Type::Struct(_)));
                // A value that is not a struct is sent as the only field of one, at an offset of 0.
                if !is_struct && input.uint()? != 0 {
                    return Err(GobError::Field);
                }
                Some(self.value(number, &mut input, 0)?)
            }
        };
        match input.bytes {
            [] => Ok(value),
            _ => Err(GobError::Long),
        }
    }

    fn describe(&mut self, number: i64, wire: &Value) -> Result<(), GobError> {
        if self.types.len() >= TYPES || self.types.contains_key(&number) {
            return Err(GobError::TooMuch);
        }
        let int = |of: &Value, name| of.field(name).and_then(Value::int).unwrap_or(0);
        let described = if let Some(array) = wire.field("ArrayT") {
            Type::Array(int(array, "Elem"))
        } else if let Some(slice) = wire.field("SliceT") {
            Type::Slice(int(slice, "Elem"))
        } else if let Some(map) = wire.field("MapT") {
            Type::Map(int(map, "Key"), int(map, "Elem"))
        } else if let Some(of) = wire.field("StructT") {
            let fields = match of.field("Field") {
                Some(Value::List(fields)) => fields.as_slice(),
                _ => &[],
            };
            if fields.len() > FIELDS {
                return Err(GobError::TooMuch);
            }
            let field = |field: &Value| {
                let name = match field.field("Name") {
                    Some(Value::Bytes(name)) => String::from_utf8_lossy(name).into(),
                    _ => Arc::from(""),
                };
                (name, int(field, "Id"))
            };
            Type::Struct(fields.iter().map(field).collect())
        } else {
            Type::Opaque
        };
        self.types.insert(number, described);
        Ok(())
    }

    fn value(&self, number: i64, input: &mut Input<'_>, depth: usize) -> Result<Value, GobError> {
        input.values += 1;
        if depth > DEPTH || input.values > VALUES {
            return Err(GobError::TooMuch);
        }
        Ok(match self.types.get(&number).ok_or(GobError::Type)? {
            Type::Bool => Value::Bool(input.uint()? != 0),
            Type::Int => Value::Int(input.int()?),
            Type::Uint => Value::Uint(input.uint()?),
            Type::Float => Value::Float(f64::from_bits(input.uint()?.swap_bytes())),
            Type::Bytes | Type::Opaque => Value::Bytes(input.run()?.to_vec()),
            Type::Array(of) | Type::Slice(of) => {
                let length = input.length()?;
                let values = (0..length).map(|_| self.value(*of, input, depth + 1));
                Value::List(values.collect::<Result<_, _>>()?)
            }
            Type::Map(key, of) => {
                let mut values = Vec::new();
                for _ in 0..input.length()? {
                    values.push(self.value(*key, input, depth + 1)?);
                    values.push(self.value(*of, input, depth + 1)?);
                }
                Value::List(values)
            }
            Type::Struct(fields) => Value::Struct(self.fields(fields, input, depth)?),
        })
    }

    /// Each field is preceded by the difference to the number of the previous one. Zero ends the struct.
    fn fields(
        &self,
        fields: &[(Arc<str>, i64)],
        input: &mut Input<'_>,
        depth: usize,
    ) -> Result<Vec<(Arc<str>, Value)>, GobError> {
        let mut read = Vec::new();
        let mut next = 0_usize;
        loop {
            let step = usize::try_from(input.uint()?).map_err(|_| GobError::Field)?;
            if step == 0 {
                return Ok(read);
            }
            next = next.checked_add(step).ok_or(GobError::Field)?;
            let (name, of) = fields.get(next - 1).ok_or(GobError::Field)?;
            read.push((Arc::clone(name), self.value(*of, input, depth + 1)?));
        }
    }
}

/// The rest of a message.
struct Input<'m> {
    bytes: &'m [u8],
    values: usize,
}

impl<'m> Input<'m> {
    fn uint(&mut self) -> Result<u64, GobError> {
        let (first, rest) = self.bytes.split_first().ok_or(GobError::Short)?;
        let more = number_bytes(*first)?;
        let (number, rest) = rest.split_at_checked(more).ok_or(GobError::Short)?;
        self.bytes = rest;
        Ok(match more {
            0 => u64::from(*first),
            _ => number
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        })
    }

    /// The lowest bit is the sign.
    fn int(&mut self) -> Result<i64, GobError> {
        let uint = self.uint()?;
        let half = (uint >> 1) as i64;
        Ok(if uint & 1 == 1 { !half } else { half })
    }

    fn run(&mut self) -> Result<&'m [u8], GobError> {
        let length = usize::try_from(self.uint()?).map_err(|_| GobError::Short)?;
        let (run, rest) = self.bytes.split_at_checked(length).ok_or(GobError::Short)?;
        self.bytes = rest;
        Ok(run)
    }

    /// The number of following values, each of which takes at least one byte.
    fn length(&mut self) -> Result<usize, GobError> {
        let length = usize::try_from(self.uint()?).map_err(|_| GobError::Short)?;
        if length <= self.bytes.len() {
            Ok(length)
        } else {
            Err(GobError::Short)
        }
    }
}

/// The number of bytes of a number after its first one.
pub(super) fn number_bytes(first: u8) -> Result<usize, GobError> {
    match first {
        0..=127 => Ok(0),
        _ => match usize::from(first.wrapping_neg()) {
            more @ 1..=8 => Ok(more),
            _ => Err(GobError::Number),
        },
    }
}

/// Appends a number.
pub(super) fn write_uint(out: &mut Vec<u8>, number: u64) {
    if number < 128 {
        out.push(number as u8);
        return;
    }
    let bytes = number.to_be_bytes();
    let zeros = (number.leading_zeros() / 8) as usize;
    out.push(((bytes.len() - zeros) as u8).wrapping_neg());
    out.extend(bytes.iter().skip(zeros));
}

/// Appends text or bytes.
pub(super) fn write_run(out: &mut Vec<u8>, run: &[u8]) {
    write_uint(out, run.len() as u64);
    out.extend_from_slice(run);
}

/// For the property test and a fuzzer: decodes arbitrary bytes as a stream and must not panic.
pub fn read_anything(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    let mut input = Input { bytes, values: 0 };
    while let Ok(message) = input.run() {
        if decoder.message(message).is_err() {
            return;
        }
    }
    let _ = decoder.message(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_decoded_as_encoded(number: u64) {
            let mut bytes = Vec::new();
            write_uint(&mut bytes, number);
            let mut input = Input { bytes: &bytes, values: 0 };
            prop_assert_eq!(input.uint(), Ok(number));
            prop_assert!(input.bytes.is_empty());
        }

        #[test]
        fn arbitrary_bytes_are_a_stream_or_an_error(bytes: Vec<u8>) {
            read_anything(&bytes);
        }

        /// Mostly valid descriptions, so that values are reached too.
        #[test]
        fn arbitrary_types_and_values_are_decoded_or_rejected(
            kind in 1_u8..8,
            inner in prop::collection::vec(any::<u8>(), 0..40),
            value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut decoder = Decoder::default();
            let mut description = vec![0xff, 0x81, kind];
            description.extend(inner);
            let _ = decoder.message(&description);
            let mut message = vec![0xff, 0x82];
            message.extend(value);
            let _ = decoder.message(&message);
        }
    }

    #[test]
    fn numbers_match_the_documentation() {
        for (number, wire) in [
            (7, &[7][..]),
            (127, &[127]),
            (128, &[0xff, 0x80]),
            (256, &[0xfe, 1, 0]),
        ] {
            let mut bytes = Vec::new();
            write_uint(&mut bytes, number);
            assert_eq!(bytes, wire);
        }
        assert_eq!(number_bytes(0x80), Err(GobError::Number));
        let mut input = Input {
            bytes: &[0x81 - 0x7e, 4],
            values: 0,
        };
        assert_eq!((input.int(), input.int()), (Ok(-2), Ok(2)));
    }

    #[test]
    fn a_recursive_type_is_rejected() {
        let mut decoder = Decoder::default();
        // The Go declaration `type 65 []65`.
        assert_eq!(
            decoder.message(&[0xff, 0x81, 2, 2, 0xff, 0x82, 0, 0]),
            Ok(None)
        );
        let deep = [&[0xff, 0x82, 0][..], &[1; 200]].concat();
        assert_eq!(decoder.message(&deep), Err(GobError::TooMuch));
    }
}
