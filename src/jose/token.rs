//! A compact JWS taken apart: what stands in it before anybody believes it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, DecodeSliceError, Engine};
use serde_json::Value;
use smallvec::SmallVec;

use crate::jose::algorithm::Algorithm;
use crate::jose::claims::{self, Claims};
use crate::jose::key::Key;
use crate::jose::key_set::KeyIdStrategy;
use crate::jose::reason::{Reason, Refusal};
use crate::jose::strict;

/// Longer tokens are refused unread. Above what any server's header limit lets through by default.
pub const MAX_TOKEN_BYTES: usize = 1 << 20;

/// Longest `kid` or thumbprint that is looked up, in bytes.
const MAX_KEY_ID_BYTES: usize = 1024;

/// The widest signature we verify: RSA with a modulus of 8192 bits.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// A token's parts, decoded but not believed: compact serialization only (RFC 7515 §3.1, §7.1).
pub struct Token<'a> {
    /// Header and payload as they were signed.
    signed: &'a str,
    payload: Vec<u8>,
    signature: SmallVec<[u8; 256]>,
    header: Header,
}

/// What the header says of itself; each member is judged by the step that needs it.
struct Header {
    /// `None`: absent, no string, or a name that we do not know. None of them can equal a configured algorithm.
    algorithm: Option<Algorithm>,
    /// An extension is asked for: `crit`, whatever its value, or an unencoded payload (RFC 7797).
    critical: bool,
    kid: KeyId,
    x5t: KeyId,
    x5t_s256: KeyId,
}

enum KeyId {
    Absent,
    Text(Box<str>),
    /// Something else: what it is.
    NoString(&'static str),
    TooLong,
}

impl<'a> Token<'a> {
    /// Takes a token apart. Nothing is trimmed, padded or forgiven: one token has one spelling (RFC 7515 §2).
    pub fn parse(text: &'a str) -> Result<Token<'a>, Refusal> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(malformed("token is too long"));
        }
        // Dots are counted before anything is decoded, so that a JWE or a text full of dots costs one scan.
        let (signed, signature) = text.rsplit_once('.').ok_or_else(not_three_parts)?;
        let (header, payload) = signed.split_once('.').ok_or_else(not_three_parts)?;
        if payload.contains('.') {
            return Err(not_three_parts());
        }
        let header = Header::parse(&decode(header)?)?;
        Ok(Token {
            signed,
            payload: decode(payload)?,
            signature: decode_signature(signature)?,
            header,
        })
    }

    /// The algorithm that the header names, if it is one we know. For people; [`Token::check_algorithm`] decides.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.header.algorithm
    }

    /// Step one: the header names the configured algorithm, and no other of its family. Nothing else is looked at before.
    pub fn check_algorithm(&self, configured: Algorithm) -> Result<(), Refusal> {
        if self
            .header
            .algorithm
            .is_some_and(|named| named.means(configured))
        {
            return Ok(());
        }
        Err(Refusal::new(Reason::AlgNotAllowed, "algorithm is invalid"))
    }

    /// Step two: no extension is asked for. We implement none, so any `crit` is one too many (RFC 7515 §4.1.11).
    pub fn check_critical(&self) -> Result<(), Refusal> {
        if !self.header.critical {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::CriticalHeader,
            "go-jose/go-jose: error in cryptographic primitive: the header asks for an extension",
        ))
    }

    /// Step three: the id under which the key is to be looked up. Keys in the token itself are never used.
    pub fn key_id(&self, strategy: KeyIdStrategy) -> Result<Cow<'_, str>, Refusal> {
        let header = &self.header;
        let kid = header.kid.text("kid")?;
        Ok(match strategy {
            KeyIdStrategy::Kid => Cow::Borrowed(kid.unwrap_or_default()),
            KeyIdStrategy::X5t => {
                Cow::Borrowed(header.x5t.text("x5t")?.or(kid).unwrap_or_default())
            }
            KeyIdStrategy::X5tS256 => Cow::Borrowed(
                header
                    .x5t_s256
                    .text("x5t#S256")?
                    .or(kid)
                    .unwrap_or_default(),
            ),
            KeyIdStrategy::KidX5t => {
                let x5t = header.x5t.text("x5t")?.or(kid).unwrap_or_default();
                Cow::Owned([kid.unwrap_or_default(), x5t].concat())
            }
        })
    }

    /// Step four: the signature is right under this key and this algorithm.
    pub fn verify(&self, key: &Key, algorithm: Algorithm) -> Result<(), Refusal> {
        // Asked again, so that a caller who skips a step gets a refusal and not a hole.
        self.check_algorithm(algorithm)?;
        self.check_critical()?;
        key.verify(algorithm, self.signed.as_bytes(), &self.signature)
    }

    /// Step five: what the token says. Before [`Token::verify`] nobody vouches for it: then it may at most choose,
    /// by `iss`, whose keys are asked.
    pub fn claims(&self) -> Result<Claims, Refusal> {
        Claims::parse(&self.payload)
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted token]")
    }
}

impl Header {
    fn parse(json: &[u8]) -> Result<Header, Refusal> {
        let mut header = Header {
            algorithm: None,
            critical: false,
            kid: KeyId::Absent,
            x5t: KeyId::Absent,
            x5t_s256: KeyId::Absent,
        };
        let mut seen = BTreeSet::new();
        strict::members(json, |name, value| {
            match &*name {
                "alg" => header.algorithm = value.as_str().and_then(Algorithm::parse),
                "crit" => header.critical = true,
                // Without `crit` it is wrong by RFC 7797 §6, and `false` would change what was signed.
                "b64" => header.critical |= value != Value::Bool(true),
                "kid" => header.kid = KeyId::of(value),
                "x5t" => header.x5t = KeyId::of(value),
                "x5t#S256" => header.x5t_s256 = KeyId::of(value),
                _ => {}
            }
            seen.insert(name)
        })
        .map_err(|fault| malformed(fault.to_string()))?;
        Ok(header)
    }
}

impl KeyId {
    fn of(value: Value) -> KeyId {
        match value {
            Value::String(id) if id.len() > MAX_KEY_ID_BYTES => KeyId::TooLong,
            Value::String(id) => KeyId::Text(id.into_boxed_str()),
            other => KeyId::NoString(claims::kind(&other)),
        }
    }

    /// The text of the header member `name`.
    fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self {
            KeyId::Absent => Ok(None),
            KeyId::Text(id) => Ok(Some(id)),
            KeyId::NoString(found) => Err(malformed(format!(
                "failed to unmarshal key ID: header member {name:?} must be a string, and is {found}"
            ))),
            KeyId::TooLong => Err(malformed(format!("header member {name:?} is too long"))),
        }
    }
}

/// The token in a header value such as `Bearer x.y.z`; the scheme may be missing, in which case all of it is the token.
///
/// `None` means that there is nothing, and another place may be looked at. A value that is no text is final.
pub fn bearer(value: &[u8]) -> Result<Option<&str>, Refusal> {
    let text = std::str::from_utf8(value).map_err(|_| malformed("illegal base64 data"))?;
    if text.is_empty() {
        return Ok(None);
    }
    const SCHEME: &str = "bearer ";
    Ok(Some(match text.split_at_checked(SCHEME.len()) {
        // As KrakenD does: a bare scheme without a token is taken for a (bad) token.
        Some((scheme, rest)) if !rest.is_empty() && scheme.eq_ignore_ascii_case(SCHEME) => {
            rest.trim_start_matches(' ')
        }
        _ => text,
    }))
}

/// Parses whatever it is given, for the fuzzer and the property test: must neither panic nor accept.
pub fn parse_anything(bytes: &[u8]) {
    if let Ok(Some(text)) = bearer(bytes)
        && let Ok(token) = Token::parse(text)
    {
        let _ = token.check_critical();
        let _ = token.key_id(KeyIdStrategy::KidX5t);
        let _ = token.claims();
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| illegal_base64(&error))
}

fn decode_signature(part: &str) -> Result<SmallVec<[u8; 256]>, Refusal> {
    let mut bytes = [0; MAX_SIGNATURE_BYTES];
    let length = URL_SAFE_NO_PAD
        .decode_slice(part, &mut bytes)
        .map_err(|error| match error {
            DecodeSliceError::DecodeError(error) => illegal_base64(&error),
            DecodeSliceError::OutputSliceTooSmall => malformed("signature is too long"),
        })?;
    Ok(SmallVec::from_slice(
        bytes.get(..length).unwrap_or_default(),
    ))
}

/// The position is counted from the start of the part, as in the reference; it tells nothing of the content.
fn illegal_base64(error: &DecodeError) -> Refusal {
    match error {
        DecodeError::InvalidByte(at, _) => {
            malformed(format!("illegal base64 data at input byte {at}"))
        }
        _ => malformed("illegal base64 data: length, padding or unused bits"),
    }
}

fn not_three_parts() -> Refusal {
    malformed("go-jose/go-jose: compact JWS format must have three parts")
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

#[cfg(test)]
mod tests;
