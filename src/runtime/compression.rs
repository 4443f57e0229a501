//! Compression of responses to clients: whether, with which coding, and the encoders (RFC 9110 §8.4, §12.5.3).

mod encoder;

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
};
use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

pub(crate) use encoder::{Encoder, encode};

const EVENT_STREAM: &str = "text/event-stream";
const GRPC: &str = "application/grpc";

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    /// The name in `Content-Encoding`, and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// The coding with this name in `Accept-Encoding`, in any letter case.
    pub fn named(name: &str) -> Option<Coding> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("gzip") || is("x-gzip") => Some(Coding::Gzip),
            () if is("br") => Some(Coding::Brotli),
            () if is("zstd") => Some(Coding::Zstd),
            () => None,
        }
    }

    pub const fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

/// A coding and its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub coding: Coding,
    pub level: u32,
}

/// Which responses are compressed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// In order of preference among codings with equal weights.
    pub codings: SmallVec<[Setting; 3]>,
    /// Bodies that are known to be smaller are left as they are.
    pub min_size: u64,
    pub types: Box<[TypePattern]>,
}

/// A media type that is compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypePattern {
    /// `application/json`
    Exact(Box<str>),
    /// `text/*`, kept as `text/`.
    Family(Box<str>),
    /// `application/*+json`, kept as `application/` and `+json`.
    Suffix(Box<str>, Box<str>),
}

impl TypePattern {
    /// Parses a type of the configuration. `None` if it is not one.
    pub fn parse(text: &str) -> Option<TypePattern> {
        let text = text.trim();
        let (family, rest) = text.split_once('/')?;
        let is_token = |text: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !text.is_empty() && text.bytes().all(good)
        };
        if !is_token(family) {
            return None;
        }
        match rest.strip_prefix('*') {
            Some("") => Some(TypePattern::Family(format!("{family}/").into())),
            Some(suffix) if suffix.len() > 1 && suffix.starts_with('+') && is_token(suffix) => {
                Some(TypePattern::Suffix(
                    format!("{family}/").into(),
                    suffix.into(),
                ))
            }
            Some(_) => None,
            None if is_token(rest) => Some(TypePattern::Exact(text.into())),
            None => None,
        }
    }

    /// `name` is a type without parameters.
    fn matches(&self, name: &str) -> bool {
        let begins = |with: &str| {
            let start = name.as_bytes().get(..with.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        match self {
            TypePattern::Exact(exact) => exact.eq_ignore_ascii_case(name),
            TypePattern::Family(family) => begins(family),
            TypePattern::Suffix(family, suffix) => {
                let end = name.len().checked_sub(suffix.len());
                let end = end.and_then(|at| name.as_bytes().get(at..));
                begins(family) && end.is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
            }
        }
    }
}

/// What happens to a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It would never be compressed.
    Untouched,
    /// It is sent as it is, but another client's would be compressed.
    Varies,
    /// A 304 about a response that is compressed for this client.
    NotModified,
    Encode(Setting),
}

impl Compression {
    /// Decides about a response with this status and these headers. `length` is that of its body, if it is known.
    pub fn choose(
        &self,
        asked: &HeaderMap,
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
    ) -> Choice {
        if status == StatusCode::NOT_MODIFIED {
            return match self.preferred(asked) {
                Some(_) => Choice::NotModified,
                None => Choice::Varies,
            };
        }
        if !self.is_compressible(status, headers) {
            return Choice::Untouched;
        }
        // RFC 9110 §15.3.7: a part has the Vary that the whole would have.
        if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE) {
            return Choice::Varies;
        }
        let is_large = length.is_none_or(|length| length >= self.min_size && length > 0);
        match self.preferred(asked) {
            Some(setting) if is_large => Choice::Encode(setting),
            _ => Choice::Varies,
        }
    }

    fn is_compressible(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let has_body = !status.is_informational()
            && !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        let is_encoded = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
        has_body && !is_encoded && !is_final(headers) && self.has_type(headers)
    }

    fn has_type(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok()) else {
            return false;
        };
        let name = value.split(';').next().unwrap_or_default().trim();
        let is_grpc = name
            .get(..GRPC.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(GRPC));
        !is_grpc
            && !name.eq_ignore_ascii_case(EVENT_STREAM)
            && self.types.iter().any(|pattern| pattern.matches(name))
    }

    /// The supported coding with the highest weight in `Accept-Encoding`. `None` if the client accepts none, or prefers
    /// no coding.
    fn preferred(&self, asked: &HeaderMap) -> Option<Setting> {
        let weights = Weights::of(asked)?;
        let mut best: Option<(u16, Setting)> = None;
        for setting in &self.codings {
            let weight = weights.of_coding(setting.coding);
            if weight > 0 && best.is_none_or(|(known, _)| weight > known) {
                best = Some((weight, *setting));
            }
        }
        let (weight, setting) = best?;
        let plain = weights.identity.unwrap_or(0);
        (weight >= plain).then_some(setting)
    }
}

/// `Cache-Control: no-transform` (RFC 9111 §5.2.2.6).
fn is_final(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

/// What `Accept-Encoding` says, in thousandths (RFC 9110 §12.4.2).
#[derive(Debug, Default)]
struct Weights {
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    others: Option<u16>,
}

impl Weights {
    /// `None` if the client says nothing.
    fn of(asked: &HeaderMap) -> Option<Weights> {
        let mut weights = None;
        for value in asked.get_all(ACCEPT_ENCODING) {
            let weights = weights.get_or_insert_with(Weights::default);
            let value = value.to_str().unwrap_or_default();
            value.split(',').for_each(|item| weights.add(item));
        }
        weights
    }

    fn add(&mut self, item: &str) {
        let (name, rest) = item.split_once(';').unwrap_or((item, ""));
        let Some(weight) = weight(rest) else {
            return;
        };
        let name = name.trim();
        let place = match Coding::named(name) {
            Some(coding) => self.codings.get_mut(coding as usize),
            None if name == "*" => Some(&mut self.others),
            None if name.eq_ignore_ascii_case("identity") => Some(&mut self.identity),
            None => None,
        };
        if let Some(place) = place {
            *place = Some(weight);
        }
    }

    fn of_coding(&self, coding: Coding) -> u16 {
        let own = self.codings.get(coding as usize).copied().flatten();
        own.or(self.others).unwrap_or(0)
    }
}

/// Whether a client accepts gzip, and does not prefer a plain body.
pub(crate) fn accepts_gzip(asked: &HeaderMap) -> bool {
    let weights = Weights::of(asked);
    weights.is_some_and(|weights| {
        let gzip = weights.of_coding(Coding::Gzip);
        gzip > 0 && gzip >= weights.identity.unwrap_or(0)
    })
}

/// The weight of an item's parameters. `None` if it is not one: the item does not count then.
fn weight(parameters: &str) -> Option<u16> {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return Some(1000);
    }
    let (name, value) = parameters.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value = value.trim();
    let digits = value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let weight = value.parse::<f32>().ok().filter(|_| digits)?;
    (weight <= 1.0).then_some((weight * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compression() -> Compression {
        let setting = |coding| Setting { coding, level: 3 };
        Compression {
            codings: [Coding::Zstd, Coding::Brotli, Coding::Gzip]
                .into_iter()
                .map(setting)
                .collect(),
            min_size: 100,
            types: ["text/*", "application/json", "application/*+json"]
                .into_iter()
                .map(|text| TypePattern::parse(text).unwrap())
                .collect(),
        }
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn chosen(accept: &'static str) -> Option<&'static str> {
        let asked = map(&[("accept-encoding", accept)]);
        compression().preferred(&asked).map(|s| s.coding.name())
    }

    #[test]
    fn the_client_chooses_and_among_equals_the_order_of_the_file() {
        for (accept, coding) in [
            ("gzip", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, br", Some("br")),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.1", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("*", Some("zstd")),
            ("*;q=0.5, zstd;q=0", Some("br")),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
            ("identity;q=0", None),
            ("", None),
            ("deflate", None),
            ("gzip ; q=0.5 , br", Some("br")),
            ("gzip;q=nan", None),
            ("gzip;q=2", None),
            ("gzip;q=-1", None),
            ("gzip;level=3", None),
            ("gzipp", None),
        ] {
            assert_eq!(chosen(accept), coding, "{accept:?}");
        }
        assert_eq!(compression().preferred(&HeaderMap::new()), None);
        let lines = map(&[("accept-encoding", "deflate"), ("accept-encoding", "br")]);
        let preferred = compression().preferred(&lines);
        assert_eq!(preferred.map(|s| s.coding), Some(Coding::Brotli));
    }

    fn choice(
        status: u16,
        headers: &[(&'static str, &'static str)],
        length: Option<u64>,
    ) -> Choice {
        let asked = map(&[("accept-encoding", "gzip")]);
        let status = StatusCode::from_u16(status).unwrap();
        compression().choose(&asked, status, &map(headers), length)
    }

    #[test]
    fn only_whole_plain_bodies_of_the_listed_types_are_compressed() {
        let json = ("content-type", "application/json; charset=utf-8");
        let is_encoded = |status, headers: &[_], length| {
            matches!(choice(status, headers, length), Choice::Encode(_))
        };
        for headers in [
            &[json][..],
            &[("content-type", "TEXT/Html")],
            &[("content-type", "application/problem+json")],
            &[json, ("content-encoding", "identity")],
            &[json, ("cache-control", "public, max-age=3")],
        ] {
            assert!(is_encoded(200, headers, None), "{headers:?}");
            assert!(is_encoded(404, headers, Some(100)), "{headers:?}");
            assert_eq!(choice(200, headers, Some(99)), Choice::Varies);
            for status in [100, 204, 205] {
                assert_eq!(choice(status, headers, None), Choice::Untouched);
            }
            assert_eq!(choice(206, headers, None), Choice::Varies);
            assert_eq!(choice(304, headers, None), Choice::NotModified);
        }
        for headers in [
            &[][..],
            &[("content-type", "image/png")],
            &[("content-type", "text/event-stream")],
            &[("content-type", "text/event-stream; charset=utf-8")],
            &[("content-type", "application/grpc+json")],
            &[("content-type", "textual/html")],
            &[json, ("content-encoding", "br")],
            &[json, ("cache-control", "max-age=3, No-Transform")],
        ] {
            assert_eq!(choice(200, headers, None), Choice::Untouched, "{headers:?}");
        }
        let part = [json, ("content-range", "bytes 0-9/10")];
        assert_eq!(choice(200, &part, None), Choice::Varies);
        let plain = compression().choose(&HeaderMap::new(), StatusCode::OK, &map(&[json]), None);
        assert_eq!(plain, Choice::Varies);
    }

    #[test]
    fn an_empty_body_is_never_compressed() {
        let all = Compression {
            min_size: 0,
            ..compression()
        };
        let (asked, headers) = (
            map(&[("accept-encoding", "gzip")]),
            map(&[("content-type", "text/plain")]),
        );
        let choice = all.choose(&asked, StatusCode::OK, &headers, Some(0));
        assert_eq!(choice, Choice::Varies);
    }

    #[test]
    fn types_of_the_file() {
        for wrong in [
            "", "text", "*/*", "text/", "/json", "a/*b", "a b/c", "text/*+", "a/b;q=1",
        ] {
            assert_eq!(TypePattern::parse(wrong), None, "{wrong:?}");
        }
    }
}
