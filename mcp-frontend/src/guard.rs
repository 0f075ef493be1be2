//! Who may speak to us: the Host header, the bearer token.
//!
//! A page in a browser can make requests to any address, and by DNS rebinding under its own
//! name; so names have to be known. An address in the Host header cannot be rebound.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use service::Principal;
use sha2::{Digest, Sha256};

/// The names and secrets that open this door.
pub(crate) struct Guard {
    /// None: everybody who reaches the (loopback) port.
    pub(crate) token: Option<Token>,
    /// Names for the Host header, besides loopback's and any address.
    pub(crate) hosts: Vec<String>,
    /// Origins browsers may call from.
    pub(crate) origins: Vec<String>,
}

/// A bearer token, kept as its digest: comparing digests takes the same time whatever was guessed.
pub(crate) struct Token([u8; 32]);

impl Token {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        anyhow::ensure!(!text.trim().is_empty(), "the file is empty");
        Ok(Self::of(text.trim()))
    }

    /// The token of this text.
    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    fn matches(&self, headers: &HeaderMap) -> bool {
        let bearer = || {
            let (scheme, token) =
                headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        };
        bearer().is_some_and(|token| Self::of(token).0 == self.0)
    }
}

impl Guard {
    fn knows_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
            return false;
        };
        let is_address = host.parse::<SocketAddr>().is_ok()
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        is_address
            || name.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host))
    }
}

/// Lets a request through, with its principal, or says why not.
pub(crate) async fn check(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !guard.knows_host(request.headers()) {
        let why = "HOST_NOT_ALLOWED: this Host header is not known here; add it with --allowed-host (chart value mcp.allowedHosts)\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    if guard.token.as_ref().is_some_and(|token| !token.matches(request.headers())) {
        let why = "UNAUTHENTICATED: send the header `Authorization: Bearer TOKEN` with this installation's token\n";
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, why).into_response();
    }
    // Nothing behind this needs the token, so nothing behind it can leak it.
    request.headers_mut().remove(header::AUTHORIZATION);
    request.extensions_mut().insert(Principal::new(crate::PRINCIPAL));
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn addresses_loopback_and_listed_names_are_known_hosts() {
        let guard = Guard { token: None, hosts: vec!["mcp.example.com".into()], origins: vec![] };
        for (host, known) in [
            ("127.0.0.1:8080", true),
            ("10.96.7.1", true),
            ("[::1]:8080", true),
            ("localhost:9", true),
            ("mcp.example.com", true),
            ("MCP.example.com:8080", true),
            ("evil.example.com", false),
            ("mcp.example.com.evil.org:8080", false),
            ("", false),
        ] {
            assert_eq!(guard.knows_host(&headers(header::HOST, host)), known, "{host}");
        }
        assert!(!guard.knows_host(&HeaderMap::new()));
    }

    #[test]
    fn only_the_token_opens() {
        let token = Token::of("s3cret");
        for (value, opens) in [
            ("Bearer s3cret", true),
            ("bearer  s3cret", true),
            ("Bearer s3cre", false),
            ("Bearer s3cret2", false),
            ("Basic s3cret", false),
            ("s3cret", false),
        ] {
            assert_eq!(token.matches(&headers(header::AUTHORIZATION, value)), opens, "{value}");
        }
        assert!(!token.matches(&HeaderMap::new()));
    }
}
