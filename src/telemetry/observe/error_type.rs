/// Why work failed, in one word of a closed list: `error.type` of spans and series, and `result` of calls.
///
/// `docs/observability.md` has the same list; a test compares both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The deadline passed in a wait that has no name of its own.
    Timeout,
    ConnectRefused,
    DnsTimeout,
    ConnectTimeout,
    ProxyTimeout,
    TlsTimeout,
    Http2Timeout,
    SendTimeout,
    HeaderTimeout,
    BodyTimeout,
    /// No connection, for another reason.
    Connect,
    Dns,
    Tls,
    Reset,
    BodyInvalid,
    BodyTooLarge,
    CircuitOpen,
    RateLimited,
    Policy,
    Canceled,
    NoHosts,
    Empty,
    Credentials,
    Request,
    Script,
    BuffersFull,
    Internal,
    /// The status of the response counts as a failure. Spans show the status in place of this word.
    Status,
}

impl ErrorType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ErrorType::Timeout => "timeout",
            ErrorType::ConnectRefused => "connect_refused",
            ErrorType::DnsTimeout => "dns_timeout",
            ErrorType::ConnectTimeout => "connect_timeout",
            ErrorType::ProxyTimeout => "proxy_timeout",
            ErrorType::TlsTimeout => "tls_timeout",
            ErrorType::Http2Timeout => "http2_timeout",
            ErrorType::SendTimeout => "send_timeout",
            ErrorType::HeaderTimeout => "header_timeout",
            ErrorType::BodyTimeout => "body_timeout",
            ErrorType::Connect => "connect",
            ErrorType::Dns => "dns",
            ErrorType::Tls => "tls",
            ErrorType::Reset => "reset",
            ErrorType::BodyInvalid => "body_invalid",
            ErrorType::BodyTooLarge => "body_too_large",
            ErrorType::CircuitOpen => "circuit_open",
            ErrorType::RateLimited => "rate_limited",
            ErrorType::Policy => "policy",
            ErrorType::Canceled => "canceled",
            ErrorType::NoHosts => "no_hosts",
            ErrorType::Empty => "empty",
            ErrorType::Credentials => "credentials",
            ErrorType::Request => "request",
            ErrorType::Script => "script",
            ErrorType::BuffersFull => "buffers_full",
            ErrorType::Internal => "internal",
            ErrorType::Status => "status",
        }
    }

    /// Whether something did not happen in time.
    pub(crate) fn is_timeout(self) -> bool {
        match self {
            ErrorType::Timeout
            | ErrorType::DnsTimeout
            | ErrorType::ConnectTimeout
            | ErrorType::ProxyTimeout
            | ErrorType::TlsTimeout
            | ErrorType::Http2Timeout
            | ErrorType::SendTimeout
            | ErrorType::HeaderTimeout
            | ErrorType::BodyTimeout => true,
            ErrorType::ConnectRefused
            | ErrorType::Connect
            | ErrorType::Dns
            | ErrorType::Tls
            | ErrorType::Reset
            | ErrorType::BodyInvalid
            | ErrorType::BodyTooLarge
            | ErrorType::CircuitOpen
            | ErrorType::RateLimited
            | ErrorType::Policy
            | ErrorType::Canceled
            | ErrorType::NoHosts
            | ErrorType::Empty
            | ErrorType::Credentials
            | ErrorType::Request
            | ErrorType::Script
            | ErrorType::BuffersFull
            | ErrorType::Internal
            | ErrorType::Status => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorType::{self, *};

    /// All of them, in the order of their declaration.
    const ALL: [ErrorType; 28] = [
        Timeout,
        ConnectRefused,
        DnsTimeout,
        ConnectTimeout,
        ProxyTimeout,
        TlsTimeout,
        Http2Timeout,
        SendTimeout,
        HeaderTimeout,
        BodyTimeout,
        Connect,
        Dns,
        Tls,
        Reset,
        BodyInvalid,
        BodyTooLarge,
        CircuitOpen,
        RateLimited,
        Policy,
        Canceled,
        NoHosts,
        Empty,
        Credentials,
        Request,
        Script,
        BuffersFull,
        Internal,
        Status,
    ];

    #[test]
    fn the_page_about_observability_lists_every_type() {
        assert_eq!(ALL.len(), Status as usize + 1);
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observability.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, list) = page
            .split_once("`error.type` is the reason of a failure:")
            .unwrap();
        let (list, _) = list.split_once("`. ").unwrap();
        let listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        let known: Vec<&str> = ALL.iter().map(|error| error.as_str()).collect();
        assert_eq!(
            listed,
            known[..known.len() - 1],
            "a status is listed in words"
        );
    }
}
