//! How a health check on the same machine reaches a gateway. The gateway tells it at its control socket, which takes less
//! memory than to read the configuration once more.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::runtime::listen::Listen;

/// The path if the health endpoint is disabled.
const READY: &str = "/__ready";

/// The listener, as this machine reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    pub secure: bool,
    pub address: SocketAddr,
    pub path: String,
    pub way: Way,
}

/// What the listener requires from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    /// The PROXY protocol.
    Proxied,
    /// A client certificate, so only the control socket can be used.
    Control,
}

impl Way {
    const ALL: [(Way, &'static str); 3] = [
        (Way::Direct, "direct"),
        (Way::Proxied, "proxied"),
        (Way::Control, "control"),
    ];
}

impl Reach {
    /// For a listener, and the health endpoint if it is enabled.
    pub(crate) fn new(listen: &Listen, health_path: Option<&str>) -> Reach {
        let mut address = listen.address;
        address.set_ip(reachable(address.ip()));
        let requires_certificate = listen.tls.as_ref().is_some_and(|tls| tls.mtls.is_some());
        let proxies = listen.limits.proxy_protocol.as_deref();
        let is_proxy =
            proxies.is_some_and(|nets| nets.iter().any(|net| net.contains(&address.ip())));
        Reach {
            secure: listen.tls.is_some(),
            address,
            path: health_path.unwrap_or(READY).to_owned(),
            way: if requires_certificate {
                Way::Control
            } else if is_proxy {
                Way::Proxied
            } else {
                Way::Direct
            },
        }
    }

    /// The URL of the health endpoint.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.path)
    }

    /// On one line.
    pub(super) fn line(&self) -> String {
        let way = Way::ALL.iter().find(|(way, _)| *way == self.way);
        let way = way.map_or("", |(_, word)| word);
        format!("{} {} {way} {}\n", self.secure, self.address, self.path)
    }

    /// What [`Reach::line`] wrote.
    pub(super) fn parse(line: &str) -> Option<Reach> {
        let mut fields = line.trim_end().splitn(4, ' ');
        let (secure, address) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let word = fields.next()?;
        let (way, _) = Way::ALL.into_iter().find(|(_, known)| *known == word)?;
        Some(Reach {
            secure,
            address,
            path: fields.next()?.to_owned(),
            way,
        })
    }
}

/// A listener on all addresses is reachable at this one, whether the machine has IPv6 or not.
fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() {
        IpAddr::from(Ipv4Addr::LOCALHOST)
    } else {
        ip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for (way, _) in Way::ALL {
            let reach = Reach {
                secure: true,
                address: ([127, 0, 0, 1], 8080).into(),
                path: "/__health check".to_owned(),
                way,
            };
            assert_eq!(Reach::parse(&reach.line()), Some(reach));
        }
        for line in ["", "true", "true 127.0.0.1:80 other /", "unknown"] {
            assert_eq!(Reach::parse(line), None);
        }
    }
}
