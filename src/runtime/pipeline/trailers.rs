//! Selects the trailers of an upstream that are sent to an HTTP/2 client: those that its response announced, or all
//! for gRPC.

use http::header::{self, HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::runtime::grpc;

/// The trailers that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Announced {
    These(SmallVec<[HeaderName; 2]>),
    /// All trailers: gRPC's own metadata is not announced.
    All,
}

impl Announced {
    /// Determines it from the headers of the response.
    pub(super) fn of(headers: &HeaderMap) -> Announced {
        if grpc::is_grpc(headers) {
            return Announced::All;
        }
        let names = headers.get_all(header::TRAILER).iter();
        let names = names
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
        Announced::These(names.collect())
    }

    /// No trailers, for clients that cannot receive any.
    pub(super) fn nothing() -> Announced {
        Announced::These(SmallVec::new())
    }

    /// The trailers that may pass. `None` if there are none.
    pub(super) fn pass(&self, trailers: HeaderMap) -> Option<HeaderMap> {
        let announced = |name: &HeaderName| match self {
            Announced::All => true,
            Announced::These(names) => names.contains(name),
        };
        let mut passing = HeaderMap::with_capacity(trailers.len());
        for (name, value) in &trailers {
            if announced(name) && !is_for_the_head(name) {
                passing.append(name, value.clone());
            }
        }
        (!passing.is_empty()).then_some(passing)
    }
}

/// Headers that must be known before the body, or that concern one connection (RFC 9110 §6.5.1).
fn is_for_the_head(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::AUTHORIZATION
            | header::CONNECTION
            | header::CONTENT_ENCODING
            | header::CONTENT_LENGTH
            | header::CONTENT_RANGE
            | header::CONTENT_TYPE
            | header::HOST
            | header::SET_COOKIE
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn only_announced_trailers_pass() {
        let announced = Announced::of(&map(&[("trailer", "X-Sum, content-length")]));
        let passed = announced.pass(map(&[
            ("x-sum", "1"),
            ("x-other", "2"),
            ("content-length", "3"),
        ]));
        assert_eq!(passed, Some(map(&[("x-sum", "1")])));
        assert_eq!(Announced::of(&map(&[])).pass(map(&[("x-sum", "1")])), None);
    }

    #[test]
    fn all_trailers_of_grpc_pass_without_being_announced() {
        let announced = Announced::of(&map(&[("content-type", "application/grpc+proto")]));
        let trailers = map(&[("grpc-status", "0"), ("x-meta", "1")]);
        assert_eq!(announced.pass(trailers.clone()), Some(trailers));
    }
}
