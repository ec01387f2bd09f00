//! The URLs that are the answers to Exec, Attach and PortForward.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::StreamRequest;
use super::tokens::{Tokens, TooManyTokens};

/// Gives out URLs, each for one connection within a minute.
#[derive(Debug)]
pub struct Urls {
    /// `scheme://host:port`.
    base: String,
    tokens: Mutex<Tokens>,
}

impl Urls {
    /// URLs of a server that was told to listen on `address` and got `port`.
    pub(super) fn new(tls: bool, address: &str, port: u16) -> Self {
        let scheme = if tls { "https" } else { "http" };
        Self {
            base: format!("{scheme}://{}:{port}", host(address)),
            tokens: Mutex::default(),
        }
    }

    /// The server's address as clients dial it, such as `http://127.0.0.1:10010`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Keeps the request for the client that comes for it, and says where it has to come to.
    /// Absolute, because a kubelet dials it itself.
    ///
    /// # Errors
    /// When too many requests wait for their clients.
    pub fn issue(&self, request: StreamRequest) -> Result<String, TooManyTokens> {
        let kind = request.kind();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.issue(request, Instant::now())?;
        Ok(format!("{}/{kind}/{token}", self.base))
    }

    /// The request that a path was given out for, once.
    pub(super) fn redeem(&self, path: &str) -> Option<StreamRequest> {
        let (kind, token) = path.strip_prefix('/')?.split_once('/')?;
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let request = tokens.take(token, Instant::now())?;
        (request.kind() == kind).then_some(request)
    }
}

/// An address as a URL names it. Nobody can dial a wildcard; loopback is behind it for sure, and
/// the kubelet is on this host.
fn host(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        Ok(IpAddr::V4(_)) | Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward() -> StreamRequest {
        StreamRequest::PortForward {
            sandbox: "s".into(),
            ports: vec![80],
        }
    }

    #[test]
    fn a_url_is_absolute_and_can_be_dialled() {
        for (tls, address, base) in [
            (false, "127.0.0.1", "http://127.0.0.1:7"),
            (true, "node.example", "https://node.example:7"),
            (false, "0.0.0.0", "http://127.0.0.1:7"),
            (false, "::", "http://[::1]:7"),
            (true, "fd00::1", "https://[fd00::1]:7"),
        ] {
            let urls = Urls::new(tls, address, 7);
            let url = urls.issue(forward()).unwrap();
            assert!(url.starts_with(&format!("{base}/portforward/")), "{url}");
            let path = url.strip_prefix(base).unwrap();
            assert_eq!(urls.redeem(path), Some(forward()));
            assert_eq!(urls.redeem(path), None);
        }
    }

    #[test]
    fn a_path_of_another_kind_or_form_gets_nothing() {
        let urls = Urls::new(false, "127.0.0.1", 7);
        let url = urls.issue(forward()).unwrap();
        let token = url.rsplit('/').next().unwrap();
        for bad in [
            "",
            "/",
            "//",
            "/portforward/",
            "/portforward",
            "portforward/x",
        ] {
            assert_eq!(urls.redeem(bad), None, "{bad}");
        }
        assert_eq!(urls.redeem(&format!("/exec/{token}")), None);
    }
}
