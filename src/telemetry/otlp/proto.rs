//! Writes protobuf. The dozen messages of OTLP that we send are written field by field: a code generator and its
//! runtime would add three packages for this little code.

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// The wire types (<https://protobuf.dev/programming-guides/encoding/#structure>).
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;

impl Message {
    pub(super) fn new() -> Message {
        Message::default()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A string. An empty one is the default and is omitted.
    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Bytes. Empty bytes are the default and are omitted.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.required_bytes(field, bytes);
        }
    }

    /// Bytes of a `oneof`, where an empty value must be present too.
    pub(super) fn required_bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A nested message, even if it is empty.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::new();
        write(&mut inner);
        self.required_bytes(field, &inner.0);
    }

    /// An unsigned integer, an enumeration or a bool. 0 is the default and is omitted.
    pub(super) fn uint(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.required_uint(field, value);
        }
    }

    /// The same in a `oneof`.
    pub(super) fn required_uint(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    /// A `fixed64`, or an `sfixed64` in two's complement.
    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// A packed list of `fixed64`.
    pub(super) fn packed_fixed64(
        &mut self,
        field: u32,
        values: impl ExactSizeIterator<Item = u64>,
    ) {
        self.tag(field, LENGTH);
        self.varint(values.len() as u64 * 8);
        for value in values {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding guide.
    #[test]
    fn fields_are_written_as_in_the_encoding_guide() {
        let mut message = Message::new();
        message.uint(1, 150);
        assert_eq!(message.into_bytes(), [0x08, 0x96, 0x01]);
        let mut message = Message::new();
        message.text(2, "testing");
        assert_eq!(message.into_bytes(), b"\x12\x07testing");
        let mut message = Message::new();
        message.message(3, |inner| inner.uint(1, 150));
        assert_eq!(message.into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn defaults_are_omitted_unless_a_oneof_needs_them() {
        let mut message = Message::new();
        message.uint(1, 0);
        message.text(2, "");
        message.required_uint(2, 0);
        message.required_bytes(1, b"");
        assert_eq!(message.into_bytes(), [0x10, 0x00, 0x0a, 0x00]);
    }
}
