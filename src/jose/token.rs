//! Parsing of a compact JWS, before its signature is verified.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, DecodeSliceError, Engine};
use serde_json::Value;
use smallvec::SmallVec;

use crate::jose::algorithm::{Algorithm, Algorithms};
use crate::jose::claims::{self, Claims};
use crate::jose::key::Key;
use crate::jose::key_set::KeyIdStrategy;
use crate::jose::reason::{NOT_THREE_PARTS, Reason, Rejection};
use crate::jose::strict_json;

/// Maximum length of a token. It is higher than the default header limits of common servers.
pub(crate) const MAX_TOKEN_BYTES: usize = 1 << 20;

/// Maximum length of a `kid` or thumbprint in bytes.
const MAX_KEY_ID_BYTES: usize = 1024;

/// The longest signature that we verify: ML-DSA-87 (FIPS 204, table 2).
const MAX_SIGNATURE_BYTES: usize = 4627;

/// The longest signature of the other algorithms: RSA with a modulus of 8192 bits.
const USUAL_SIGNATURE_BYTES: usize = 1024;

/// The decoded, unverified parts of a token. Only the compact serialization is supported (RFC 7515 §3.1, §7.1).
pub struct Token<'a> {
    /// Header and payload, as they were signed.
    signed: &'a str,
    payload: Vec<u8>,
    signature: SmallVec<[u8; 256]>,
    header: Header,
}

/// The members of the header. Each is checked by the step that needs it.
struct Header {
    /// `None` if absent, not a string, or an unknown name. None of these can equal a configured algorithm.
    algorithm: Option<Algorithm>,
    /// The token requires an extension: `crit` with any value, or an unencoded payload (RFC 7797).
    critical: bool,
    kid: KeyId,
    x5t: KeyId,
    x5t_s256: KeyId,
    typ: Typ,
}

/// What a token says that it is for: its `typ`, a media type with or without `application/` (RFC 7515 §4.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typ {
    /// Nothing, or nothing in particular: `JWT`.
    Open,
    /// `at+jwt` (RFC 9068)
    Access,
    /// `logout+jwt` (OpenID Connect Back-Channel Logout 1.0)
    Logout,
    /// `dpop+jwt` (RFC 9449)
    Proof,
    /// `secevent+jwt` (RFC 8417)
    Event,
    /// `token-introspection+jwt` (RFC 9701)
    Introspection,
}

/// What a token is verified for. A token for one purpose must not be taken for another (RFC 8725 §3.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Purpose {
    /// As an access token. Many providers set no `typ`.
    #[default]
    Access,
    /// As an access token that says so: `typ` is `at+jwt` (RFC 9068 §4).
    DeclaredAccess,
    /// As a logout token.
    Logout,
    /// As a statement of a provider: an introspection response.
    Introspection,
    /// As a proof of possession (RFC 9449 §4.2).
    Proof,
}

enum KeyId {
    Absent,
    Text(Box<str>),
    /// Another JSON type, which is named here.
    NoString(&'static str),
    TooLong,
}

impl<'a> Token<'a> {
    /// Parses a token strictly. Nothing is trimmed or padded, so a token has only one valid spelling (RFC 7515 §2).
    pub fn parse(text: &'a str) -> Result<Token<'a>, Rejection> {
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

    /// The algorithm in the header, if we know it. For output only; [`Token::check_algorithm`] decides.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.header.algorithm
    }

    /// Step one: checks that the header names a configured algorithm, and returns it. No other check comes before it.
    pub fn check_algorithm(&self, configured: Algorithms) -> Result<Algorithm, Rejection> {
        self.header
            .algorithm
            .filter(|named| configured.accept(*named))
            .ok_or_else(|| Rejection::new(Reason::AlgNotAllowed, "algorithm is invalid"))
    }

    /// Step two: checks that the token requires no extension. We implement none, so any `crit` is rejected (RFC 7515
    /// §4.1.11).
    pub fn check_critical(&self) -> Result<(), Rejection> {
        if !self.header.critical {
            return Ok(());
        }
        Err(Rejection::new(
            Reason::CriticalHeader,
            "go-jose/go-jose: error in cryptographic primitive: the header asks for an extension",
        ))
    }

    /// Checks that the token does not say that it is for something else.
    pub fn check_type(&self, purpose: Purpose) -> Result<(), Rejection> {
        let fits = match (purpose, self.header.typ) {
            (Purpose::Access, Typ::Open | Typ::Access)
            | (Purpose::DeclaredAccess, Typ::Access)
            | (Purpose::Logout, Typ::Open | Typ::Logout) => true,
            (Purpose::Introspection, typ) => typ == Typ::Introspection,
            (Purpose::Proof, typ) => typ == Typ::Proof,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Rejection::new(
            Reason::WrongType,
            match purpose {
                Purpose::Access => "its typ is not that of an access token",
                Purpose::DeclaredAccess => "its typ is not at+jwt",
                Purpose::Logout => "its typ is not that of a logout token",
                Purpose::Introspection => "its typ is not token-introspection+jwt",
                Purpose::Proof => "its typ is not dpop+jwt",
            },
        ))
    }

    /// Step three: the id that the key is looked up by. Keys inside the token are never used.
    pub fn key_id(&self, strategy: KeyIdStrategy) -> Result<Cow<'_, str>, Rejection> {
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

    /// Whether the header has any member that names a key.
    pub fn names_a_key(&self) -> bool {
        let Header {
            kid, x5t, x5t_s256, ..
        } = &self.header;
        [kid, x5t, x5t_s256]
            .iter()
            .any(|id| !matches!(id, KeyId::Absent))
    }

    /// Step four: verifies the signature with this key and the algorithm of the header, which must be one of these.
    pub fn verify(&self, key: &Key, configured: Algorithms) -> Result<(), Rejection> {
        // Checked again, so that a caller who skips a step gets a rejection and not a security hole.
        let algorithm = self.check_algorithm(configured)?;
        self.check_critical()?;
        key.verify(algorithm, self.signed.as_bytes(), &self.signature)
    }

    /// Step five: the claims. Before [`Token::verify`] they are not trusted and may only select, by `iss`, the key
    /// set.
    pub fn claims(&self) -> Result<Claims, Rejection> {
        Claims::parse(&self.payload)
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted token]")
    }
}

impl Header {
    fn parse(json: &[u8]) -> Result<Header, Rejection> {
        let mut header = Header {
            algorithm: None,
            critical: false,
            kid: KeyId::Absent,
            x5t: KeyId::Absent,
            x5t_s256: KeyId::Absent,
            typ: Typ::Open,
        };
        let mut seen = BTreeSet::new();
        strict_json::members(json, |name, value| {
            match &*name {
                "alg" => header.algorithm = value.as_str().and_then(Algorithm::parse),
                "crit" => header.critical = true,
                // Invalid without `crit` (RFC 7797 §6), and `false` would change what was signed.
                "b64" => header.critical |= value != Value::Bool(true),
                "typ" => header.typ = value.as_str().map_or(Typ::Open, Typ::of),
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

impl Typ {
    /// A type that we do not know says nothing: providers write many.
    fn of(text: &str) -> Typ {
        const PREFIX: &str = "application/";
        let name = match text.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
            _ => text,
        };
        let known = [
            ("at+jwt", Typ::Access),
            ("logout+jwt", Typ::Logout),
            ("dpop+jwt", Typ::Proof),
            ("secevent+jwt", Typ::Event),
            ("token-introspection+jwt", Typ::Introspection),
        ];
        let found = known
            .into_iter()
            .find(|(one, _)| name.eq_ignore_ascii_case(one));
        found.map_or(Typ::Open, |(_, typ)| typ)
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
    fn text(&self, name: &str) -> Result<Option<&str>, Rejection> {
        match self {
            KeyId::Absent => Ok(None),
            KeyId::Text(id) => Ok(Some(id)),
            KeyId::NoString(found) => Err(malformed(format!(
                "failed to unmarshal key ID: header member {name:?} must be a string, but is {found}"
            ))),
            KeyId::TooLong => Err(malformed(format!("header member {name:?} is too long"))),
        }
    }
}

/// The token in a header value such as `Bearer x.y.z`. Without a scheme the whole value is the token.
///
/// `None` means that the value is empty and that the next place may be searched. A value that is not UTF-8 is an
/// error.
pub(crate) fn bearer(value: &[u8]) -> Result<Option<&str>, Rejection> {
    bearer_bytes(value).map(token_text).transpose()
}

/// Like `bearer`, of a value that may be no text.
pub(crate) fn bearer_bytes(value: &[u8]) -> Option<&[u8]> {
    if value.is_empty() {
        return None;
    }
    const SCHEME: &[u8] = b"bearer ";
    Some(match value.split_at_checked(SCHEME.len()) {
        // As in KrakenD, a bare scheme without a token is treated as an (invalid) token.
        Some((scheme, mut rest)) if !rest.is_empty() && scheme.eq_ignore_ascii_case(SCHEME) => {
            while let [b' ', after @ ..] = rest {
                rest = after;
            }
            rest
        }
        _ => value,
    })
}

/// A token as text.
pub(crate) fn token_text(token: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(token).map_err(|_| malformed("illegal base64 data"))
}

/// The verified token of a request, for the exchange at a token server. It is a credential: no output shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectToken(Arc<str>);

impl SubjectToken {
    /// Call it only for a token that was verified.
    pub fn new(token: &str) -> SubjectToken {
        SubjectToken(token.into())
    }

    /// The token, to be sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted token]")
    }
}

/// The token after the scheme `DPoP` (RFC 9449 §7.1). `None` if the value has another scheme.
pub(crate) fn dpop_token(value: &[u8]) -> Option<&str> {
    let (scheme, rest) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("dpop")
        .then(|| rest.trim_start_matches(' '))
}

/// For the fuzzer and the property test: parses arbitrary bytes and must neither panic nor accept.
pub fn parse_anything(bytes: &[u8]) {
    if let Ok(Some(text)) = bearer(bytes)
        && let Ok(token) = Token::parse(text)
    {
        let _ = token.check_critical();
        let _ = token.key_id(KeyIdStrategy::KidX5t);
        let _ = token.claims();
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| illegal_base64(&error))
}

fn decode_signature(part: &str) -> Result<SmallVec<[u8; 256]>, Rejection> {
    // The buffer on the stack is cleared for each token, so it has the size of the usual signatures.
    if part.len() > USUAL_SIGNATURE_BYTES.div_ceil(3) * 4 {
        if part.len() > MAX_SIGNATURE_BYTES.div_ceil(3) * 4 {
            return Err(malformed("signature is too long"));
        }
        return decode(part).map(SmallVec::from_vec);
    }
    let mut bytes = [0; USUAL_SIGNATURE_BYTES + 2];
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

/// As in KrakenD, the position is counted from the start of the part. It reveals nothing about the content.
fn illegal_base64(error: &DecodeError) -> Rejection {
    match error {
        DecodeError::InvalidByte(at, _) => {
            malformed(format!("illegal base64 data at input byte {at}"))
        }
        _ => malformed("illegal base64 data: length, padding or unused bits"),
    }
}

fn not_three_parts() -> Rejection {
    malformed(NOT_THREE_PARTS)
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::new(Reason::Malformed, detail)
}

#[cfg(test)]
mod tests;
