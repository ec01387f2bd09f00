//! Proxies: which one a URL is asked through, by the environment's rules.
//!
//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` mean what they mean to Go's `net/http`, and so to
//! CRI-O and containerd (golang.org/x/net/http/httpproxy): the lower-case name wins, a proxy may be
//! written without a scheme, `NO_PROXY` has domains, addresses, networks and ports, and what is on
//! this machine's loopback is never asked through a proxy.

use std::net::IpAddr;

use reqwest::Url;

use super::cidr::Cidr;

/// The proxies of the environment. Empty: every host is asked directly.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Exception>,
}

/// What stands in `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    Network(Cidr),
    Address(IpAddr, Option<u16>),
    /// Hosts that end in `suffix` (`.example.com`), and `example.com` itself if `itself`.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl std::fmt::Debug for Proxies {
    /// Without the URLs: they may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("direct", &self.direct)
            .finish()
    }
}

impl Proxies {
    /// Reads the variables through `get`. One that is not a URL counts as unset, with a warning:
    /// what Go does in silence.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |lower: &'static str, upper: &'static str| {
            [lower, upper]
                .into_iter()
                .find_map(|name| Some((name, get(name).filter(|value| !value.is_empty())?)))
        };
        let proxy = |lower, upper| {
            let (name, value) = either(lower, upper)?;
            let url = parse_proxy(&value);
            if url.is_none() {
                // the value may hold a password
                tracing::warn!(
                    variable = name,
                    "is not the URL of a proxy (http, https or socks5) and is ignored"
                );
            }
            url
        };
        let listed = either("no_proxy", "NO_PROXY").map(|(_, value)| value);
        Proxies {
            http: proxy("http_proxy", "HTTP_PROXY"),
            https: proxy("https_proxy", "HTTPS_PROXY"),
            direct: listed.as_deref().map(parse_no_proxy).unwrap_or_default(),
        }
    }

    /// The proxy through which `url` is asked.
    pub fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_lowercase();
        let port = url.port_or_known_default();
        let direct = is_own(&host) || self.direct.iter().any(|it| it.covers(&host, port));
        (!direct).then_some(proxy)
    }

    /// The proxy's host and port, for errors.
    pub(super) fn name_of(&self, url: &Url) -> Option<String> {
        let proxy = self.of(url)?;
        let port = proxy.port_or_known_default();
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}{port}", proxy.host_str().unwrap_or_default()))
    }
}

/// Whether a host is this machine's loopback by its name.
fn is_own(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn parse_proxy(text: &str) -> Option<Url> {
    let with_host = |text: &str| Url::parse(text).ok().filter(Url::has_host);
    let mut url = if text.contains("://") {
        with_host(text)?
    } else {
        with_host(&format!("http://{text}"))?
    };
    match url.scheme() {
        "http" | "https" | "socks5h" => Some(url),
        // Go lets the proxy look names up for both; the client library has a name for that
        "socks5" => {
            url = Url::parse(&text.replacen("socks5", "socks5h", 1)).ok()?;
            Some(url)
        }
        _ => None,
    }
}

fn parse_no_proxy(text: &str) -> Vec<Exception> {
    let words = text.split(',').map(|word| word.trim().to_lowercase());
    words.filter_map(|word| parse_exception(&word)).collect()
}

fn parse_exception(word: &str) -> Option<Exception> {
    if word == "*" {
        return Some(Exception::Everything);
    }
    if let Some(network) = Cidr::parse(word) {
        return Some(Exception::Network(network));
    }
    let (host, port) = split_port(word);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Some(Exception::Address(address, port));
    }
    let domain = host.strip_prefix('*').filter(|rest| rest.starts_with('.'));
    let domain = domain.unwrap_or(host);
    let itself = !domain.starts_with('.');
    let bare = domain.trim_start_matches('.');
    (!bare.is_empty()).then(|| Exception::Domain {
        suffix: format!(".{bare}"),
        itself,
        port,
    })
}

/// `host:port`, `[v6]:port`, or neither.
fn split_port(word: &str) -> (&str, Option<u16>) {
    match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (word, None),
        },
        _ => (word, None),
    }
}

impl Exception {
    fn covers(&self, host: &str, port: Option<u16>) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Exception::Everything => true,
            Exception::Network(network) => address.is_some_and(|ip| network.contains(ip)),
            Exception::Address(wanted, at) => address == Some(*wanted) && fits(at),
            Exception::Domain {
                suffix,
                itself,
                port: at,
            } => {
                address.is_none()
                    && fits(at)
                    && (host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_environment(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn asked(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).unwrap()).map(Url::to_string)
    }

    #[test]
    fn variables_are_read_as_go_reads_them() {
        let table = [
            (
                &[("HTTPS_PROXY", "http://p:1")][..],
                "https://a.io/",
                Some("http://p:1/"),
            ),
            (&[("HTTPS_PROXY", "http://p:1")], "http://a.io/", None),
            (
                &[("HTTP_PROXY", "p:1")],
                "http://a.io/",
                Some("http://p:1/"),
            ),
            (
                &[("https_proxy", "l"), ("HTTPS_PROXY", "u")],
                "https://a.io/",
                Some("http://l/"),
            ),
            (
                &[("https_proxy", ""), ("HTTPS_PROXY", "u")],
                "https://a.io/",
                Some("http://u/"),
            ),
            (
                &[("HTTPS_PROXY", "socks5://s:9")],
                "https://a.io/",
                Some("socks5h://s:9"),
            ),
            (
                &[("HTTPS_PROXY", "https://u:p@s")],
                "https://a.io/",
                Some("https://u:p@s/"),
            ),
            (&[("HTTPS_PROXY", "ftp://p")], "https://a.io/", None),
            (&[("HTTPS_PROXY", "http://")], "https://a.io/", None),
            (&[("HTTPS_PROXY", "p")], "https://localhost:5000/", None),
            (&[("HTTPS_PROXY", "p")], "https://127.0.0.2:5000/", None),
            (&[("HTTPS_PROXY", "p")], "https://[::1]:5000/", None),
        ];
        for (variables, url, want) in table {
            let found = asked(&proxies(variables), url);
            assert_eq!(found.as_deref(), want, "{variables:?} {url}");
        }
    }

    #[test]
    fn no_proxy_has_domains_addresses_networks_and_ports() {
        // (NO_PROXY, URL, asked directly); each was put to Go's httpproxy as well
        let table = [
            ("a.io", "https://a.io/", true),
            ("a.io", "https://b.a.io/", true),
            ("a.io", "https://aa.io/", false),
            (".a.io", "https://a.io/", false),
            (".a.io", "https://b.a.io/", true),
            ("*.a.io", "https://b.a.io/", true),
            ("*.a.io", "https://a.io/", false),
            ("A.io", "https://a.IO/", true),
            ("a.io:443", "https://a.io/", true),
            ("a.io:5000", "https://a.io/", false),
            ("a.io:5000", "https://a.io:5000/", true),
            ("x, a.io ,y", "https://a.io/", true),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("10.1.2.3", "https://10.1.2.3:5000/", true),
            ("10.1.2.3:5000", "https://10.1.2.3/", false),
            ("fd00::/8", "https://[fd00::1]/", true),
            ("fd00::1", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]/", false),
            ("*", "https://anything/", true),
            ("*", "https://10.1.2.3/", true),
            ("", "https://a.io/", false),
            (",.,:,/,:5", "https://a.io/", false),
        ];
        for (list, url, direct) in table {
            let proxies = proxies(&[("HTTPS_PROXY", "p"), ("NO_PROXY", list)]);
            assert_eq!(asked(&proxies, url).is_none(), direct, "{list} {url}");
        }
    }

    #[test]
    fn a_password_is_not_in_debug_output() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://u:s3cret@p")]);
        assert!(!format!("{proxies:?}").contains("s3cret"));
    }
}
