//! Selects the calls that go through a proxy: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, and `proxy_address`.
//!
//! The rules are those of Go's `http.ProxyFromEnvironment`, which KrakenD uses.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

/// The proxies, and the calls that use them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Proxies {
    http: Option<ProxyUrl>,
    https: Option<ProxyUrl>,
    /// Hosts that are called directly. `None`: no exceptions, not even for this machine.
    except: Option<Exceptions>,
}

/// The address of a proxy and its protocol.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ProxyUrl {
    pub(super) scheme: ProxyScheme,
    pub(super) name: Box<str>,
    pub(super) port: u16,
    /// User and password, decoded.
    pub(super) user: Option<(Box<str>, Box<str>)>,
}

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ProxyScheme {
    Http,
    /// HTTP over TLS.
    Https,
    /// RFC 1928. The proxy resolves the names.
    Socks5,
}

/// An address of a proxy that is not usable.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProxyError(String);

/// The parsed `NO_PROXY`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Exceptions {
    all: bool,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Rule {
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    Domain {
        /// With a leading dot.
        suffix: Box<str>,
        /// Whether the name itself is included.
        itself: bool,
        port: Option<u16>,
    },
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyUrl")
            .field("scheme", &self.scheme)
            .field("name", &self.name)
            .field("port", &self.port)
            .field("user", &self.user.as_ref().map(|_| "***"))
            .finish()
    }
}

impl Proxies {
    /// Reads the environment. Names in upper case take precedence. If `REQUEST_METHOD` is set, `HTTP_PROXY` is
    /// ignored, because a client may have set it with a `Proxy` header (CVE-2016-5385).
    ///
    /// # Errors
    /// A variable is not the URL of a proxy. The message names the variable but not its value, which may contain a
    /// password.
    pub fn from_environment() -> Result<Proxies, ProxyError> {
        Proxies::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Proxies, ProxyError> {
        let any = |names: [&'static str; 2]| {
            let set = |name| get(name).filter(|value| !value.is_empty());
            names.into_iter().find_map(|name| Some((name, set(name)?)))
        };
        let parsed = |found: Option<(&str, String)>| {
            let Some((name, value)) = found else {
                return Ok(None);
            };
            let url = ProxyUrl::parse(&value);
            url.map(Some)
                .map_err(|ProxyError(why)| ProxyError(format!("{name}: {why}")))
        };
        let in_cgi = get("REQUEST_METHOD").is_some_and(|method| !method.is_empty());
        let http = any(["HTTP_PROXY", "http_proxy"]).filter(|_| !in_cgi);
        let except = any(["NO_PROXY", "no_proxy"]).map(|(_, value)| value);
        Ok(Proxies {
            http: parsed(http)?,
            https: parsed(any(["HTTPS_PROXY", "https_proxy"]))?,
            except: Some(Exceptions::parse(except.as_deref().unwrap_or_default())),
        })
    }

    /// Sends every call through the proxy at `url`, whatever the environment says.
    ///
    /// # Errors
    /// The text is not the URL of a proxy, or it lacks the scheme or the port, or has a path.
    pub fn always(url: &str) -> Result<Proxies, ProxyError> {
        let text = url.trim();
        let url = ProxyUrl::parse(text)?;
        is_complete(text)?;
        Ok(Proxies {
            http: Some(url.clone()),
            https: Some(url),
            except: None,
        })
    }

    /// The proxy for calls to a host, if there is one.
    pub(super) fn find(&self, secure: bool, name: &str, port: u16) -> Option<&ProxyUrl> {
        let proxy = if secure { &self.https } else { &self.http };
        let excepted = |except: &Exceptions| except.holds(name, port);
        proxy
            .as_ref()
            .filter(|_| !self.except.as_ref().is_some_and(excepted))
    }
}

impl ProxyUrl {
    /// `[scheme://][user[:password]@]host[:port]`; the default scheme is `http`.
    fn parse(text: &str) -> Result<ProxyUrl, ProxyError> {
        let invalid = |why: &str| ProxyError(format!("invalid address of a proxy: {why}"));
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .unwrap_or(("http", text.trim()));
        let (scheme, usual) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyScheme::Http, 80),
            "https" => (ProxyScheme::Https, 443),
            "socks5" | "socks5h" => (ProxyScheme::Socks5, 1080),
            _ => return Err(invalid("the scheme is not http, https or socks5")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (name, port) = split_port(host);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("it names no host"));
        }
        let port = match port {
            None | Some("") => usual,
            Some(port) => port
                .parse()
                .map_err(|_| invalid("the port is not a number"))?,
        };
        Ok(ProxyUrl {
            scheme,
            name: name.into(),
            port,
            user: user.map(credentials),
        })
    }

    /// The value of `Proxy-Authorization` (RFC 7617).
    pub(super) fn authorization(&self) -> Option<String> {
        let (user, password) = self.user.as_ref()?;
        Some(format!(
            "Basic {}",
            STANDARD.encode(format!("{user}:{password}"))
        ))
    }
}

/// The variables of the environment may leave parts out. A file names the proxy in full.
fn is_complete(text: &str) -> Result<(), ProxyError> {
    let lacks = |what: &str| ProxyError(format!("invalid address of a proxy: {what}"));
    let (_, rest) = text
        .split_once("://")
        .ok_or_else(|| lacks("it has no scheme"))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(path, "" | "/") {
        return Err(lacks("it has a path"));
    }
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match split_port(host) {
        (_, None | Some("")) => Err(lacks("it has no port")),
        (_, Some(_)) => Ok(()),
    }
}

fn credentials(text: &str) -> (Box<str>, Box<str>) {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into();
    (decoded(user), decoded(password))
}

/// The host and the port after it. An IPv6 literal without brackets has no port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if name.ends_with(']') || !name.contains(':') => (name, Some(port)),
        _ => (host, None),
    }
}

impl Exceptions {
    fn parse(text: &str) -> Exceptions {
        let mut except = Exceptions::default();
        for entry in text.split(',') {
            let entry = entry.trim().to_ascii_lowercase();
            if entry == "*" {
                except.all = true;
            }
            except.rules.extend(rule(&entry));
        }
        except
    }

    fn holds(&self, name: &str, port: u16) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let address = name.parse::<IpAddr>().ok();
        self.all
            || name == "localhost"
            || address.is_some_and(|address| address.is_loopback())
            || self
                .rules
                .iter()
                .any(|rule| rule.holds(&name, address, port))
    }
}

fn rule(entry: &str) -> Option<Rule> {
    if let Ok(network) = entry.parse::<IpNet>() {
        return Some(Rule::Network(network));
    }
    let (name, port) = split_port(entry);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let port = port.and_then(|port| port.parse().ok());
    if name.is_empty() {
        return None;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return Some(Rule::Address(address, port));
    }
    let suffix = name.strip_prefix('*').unwrap_or(name);
    let itself = !suffix.starts_with('.');
    Some(Rule::Domain {
        suffix: if itself {
            format!(".{suffix}")
        } else {
            suffix.to_owned()
        }
        .into(),
        itself,
        port,
    })
}

impl Rule {
    fn holds(&self, name: &str, address: Option<IpAddr>, to: u16) -> bool {
        match self {
            Rule::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Rule::Address(its, port) => address == Some(*its) && port.is_none_or(|port| port == to),
            Rule::Domain {
                suffix,
                itself,
                port,
            } => {
                let is_it = *itself && suffix.strip_prefix('.') == Some(name);
                (is_it || name.ends_with(&**suffix)) && port.is_none_or(|port| port == to)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        let find = |name: &str| variables.iter().find(|(its, _)| *its == name);
        Proxies::from_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn goes_to(proxies: &Proxies, secure: bool, name: &str, port: u16) -> Option<String> {
        let proxy = proxies.find(secure, name, port)?;
        Some(format!("{}:{}", proxy.name, proxy.port))
    }

    #[test]
    fn each_scheme_has_its_variable_and_upper_case_takes_precedence() {
        let both = of(&[
            ("HTTP_PROXY", "http://a:1"),
            ("http_proxy", "http://b:2"),
            ("https_proxy", "c:3"),
        ])
        .unwrap();
        assert_eq!(goes_to(&both, false, "h.test", 80).unwrap(), "a:1");
        assert_eq!(goes_to(&both, true, "h.test", 443).unwrap(), "c:3");
        let none = of(&[("HTTP_PROXY", "")]).unwrap();
        assert_eq!(goes_to(&none, false, "h.test", 80), None);
    }

    #[test]
    fn a_cgi_client_cannot_set_a_proxy() {
        let cgi = [
            ("HTTP_PROXY", "a:1"),
            ("HTTPS_PROXY", "b:2"),
            ("REQUEST_METHOD", "GET"),
        ];
        let cgi = of(&cgi).unwrap();
        assert_eq!(goes_to(&cgi, false, "h.test", 80), None);
        assert_eq!(goes_to(&cgi, true, "h.test", 443).unwrap(), "b:2");
    }

    #[test]
    fn no_proxy_follows_the_rules_of_go() {
        for (except, host, port, through) in [
            ("", "h.test", 80, true),
            ("", "localhost", 80, false),
            ("", "127.0.0.9", 80, false),
            ("", "::1", 80, false),
            ("*", "h.test", 80, false),
            ("h.test", "h.test", 80, false),
            ("h.test", "a.h.test", 80, false),
            ("h.test", "ah.test", 80, true),
            (".h.test", "h.test", 80, true),
            (".h.test", "a.h.test", 80, false),
            ("*.h.test", "h.test", 80, true),
            ("*.h.test", "a.h.test", 80, false),
            (" X.test , H.TEST", "h.test", 80, false),
            ("h.test:81", "h.test", 80, true),
            ("h.test:81", "h.test", 81, false),
            ("10.0.0.0/8", "10.1.2.3", 80, false),
            ("10.0.0.0/8", "11.1.2.3", 80, true),
            ("192.0.2.1", "192.0.2.1", 80, false),
            ("192.0.2.1:81", "192.0.2.1", 80, true),
            ("2001:db8::1", "2001:db8::1", 80, false),
            ("[2001:db8::1]:81", "2001:db8::1", 81, false),
            ("2001:db8::/32", "2001:db8::9", 80, false),
            (":81", "h.test", 81, true),
            (",,", "h.test", 80, true),
        ] {
            let proxies = of(&[("http_proxy", "p:1"), ("no_proxy", except)]).unwrap();
            let found = goes_to(&proxies, false, host, port).is_some();
            assert_eq!(found, through, "NO_PROXY={except:?} and {host}:{port}");
        }
    }

    #[test]
    fn a_configured_proxy_applies_to_this_machine_too() {
        let always = Proxies::always("http://p:80").unwrap();
        assert_eq!(goes_to(&always, false, "localhost", 80).unwrap(), "p:80");
        assert_eq!(goes_to(&always, true, "h.test", 443).unwrap(), "p:80");
    }

    #[test]
    fn a_configured_proxy_is_named_in_full() {
        for good in ["http://p:80", "socks5://u:p@p:1/", "https://[::1]:3128"] {
            assert!(Proxies::always(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("p:80", "scheme"),
            ("http://p", "port"),
            ("http://[::1]", "port"),
            ("http://p:80/x", "path"),
            ("http://p:80?x", "path"),
            ("http://p:99999", "port"),
            ("http://:80", "host"),
        ] {
            let error = Proxies::always(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn credentials_are_sent_but_not_shown() {
        let url = ProxyUrl::parse("http://us%40er:se%3Acret@[::1]:3128/").unwrap();
        assert_eq!((&*url.name, url.port), ("::1", 3128));
        let expected = format!("Basic {}", STANDARD.encode("us@er:se:cret"));
        assert_eq!(url.authorization().unwrap(), expected);
        assert!(!format!("{url:?}").contains("cret"), "{url:?}");
    }

    #[test]
    fn an_invalid_proxy_is_rejected_without_showing_its_password() {
        for bad in [
            "ftp://u:secret@h",
            "http://u:secret@",
            "http://u:secret@h:x",
            "http://u:secret@h o",
        ] {
            let error = of(&[("HTTPS_PROXY", bad)]).unwrap_err().to_string();
            assert!(
                error.starts_with("HTTPS_PROXY: ") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
