//! An upstream's body in, a value out.
#[derive(Debug, Clone)]
pub struct Decoder;
