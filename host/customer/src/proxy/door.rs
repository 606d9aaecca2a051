//! Turns the head of a local request into leave to go on, or into the code that it is refused with.
//! It keeps web pages of other origins out (DNS rebinding, cross-site posts); it does not tell local users apart.

use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{self, HeaderName},
};

use super::Listen;

/// The names that a client may call this proxy by.
pub(super) struct Door {
    names: Vec<String>,
}

/// A refusal at the door.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turned {
    pub status: StatusCode,
    pub code: &'static str,
    pub fact: &'static str,
    pub advice: &'static str,
}

impl Door {
    pub fn at(address: &Listen) -> Self {
        let hosts = ["localhost", "127.0.0.1", "[::1]"];
        let names = match address {
            Listen::Tcp(address) => {
                let port = address.port();
                let own = address.to_string();
                let bare = (port == 80).then(|| hosts.map(str::to_owned)).into_iter().flatten();
                hosts.iter().map(|h| format!("{h}:{port}")).chain([own]).chain(bare).collect()
            }
            Listen::Unix(_) => hosts.map(str::to_owned).to_vec(),
        };
        Self { names }
    }

    /// Host, the authority of an absolute target, Origin, path.
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Turned> {
        let host = only(headers, &header::HOST).filter(|h| self.is_ours(h));
        let authority_is_ours = uri.authority().is_none_or(|a| self.is_ours(a.as_str()));
        if host.is_none() || !authority_is_ours {
            return Err(Turned {
                status: StatusCode::MISDIRECTED_REQUEST,
                code: "HOST_REFUSED",
                fact: "the Host header is not a name of this proxy",
                advice: "Call it by localhost, 127.0.0.1 or [::1] and its port.",
            });
        }
        if headers.contains_key(header::ORIGIN)
            && !only(headers, &header::ORIGIN).is_some_and(|o| self.is_our_origin(o))
        {
            return Err(Turned {
                status: StatusCode::FORBIDDEN,
                code: "ORIGIN_REFUSED",
                fact: "a web page of another origin sent this request",
                advice: "The proxy serves programs on this machine, not web pages.",
            });
        }
        if !forwarded(uri.path()) {
            return Err(Turned {
                status: StatusCode::NOT_FOUND,
                code: "PATH_REFUSED",
                fact: "only paths of the Open Inference Protocol (/v2) are forwarded",
                advice: "Attestation is the proxy's own business: see its log.",
            });
        }
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }

    fn is_our_origin(&self, origin: &str) -> bool {
        origin.strip_prefix("http://").is_some_and(|name| self.is_ours(name))
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    }
}

/// `/v2` and what is below it, with nothing in the path that another reader could take for another path.
fn forwarded(path: &str) -> bool {
    let below = path == "/v2" || path.starts_with("/v2/");
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'\\' | b';'));
    below && plain && !path.split('/').any(|part| part == "." || part == "..") && !path.contains("//")
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn admit(target: &str, headers: &[(&'static str, &'static str)]) -> Option<&'static str> {
        let door = Door::at(&Listen::Tcp(([127, 0, 0, 1], 8000).into()));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        door.admit(&target.parse().unwrap(), &map).err().map(|t| t.code)
    }

    #[test]
    fn own_names_with_the_own_port_pass() {
        for host in ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LocalHost:8000"] {
            assert_eq!(admit("/v2/health/live", &[("host", host)]), None, "{host}");
        }
        assert_eq!(admit("http://localhost:8000/v2", &[("host", "localhost:8000")]), None);
    }

    #[test]
    fn foreign_missing_and_repeated_hosts_do_not() {
        for host in ["evil.example:8000", "localhost", "localhost:8001", "localhost:8000.evil.example", "", "127.0.0.1"]
        {
            assert_eq!(admit("/v2", &[("host", host)]), Some("HOST_REFUSED"), "{host}");
        }
        assert_eq!(admit("/v2", &[]), Some("HOST_REFUSED"));
        assert_eq!(admit("/v2", &[("host", "localhost:8000"), ("host", "localhost:8000")]), Some("HOST_REFUSED"));
        assert_eq!(admit("http://evil.example/v2", &[("host", "localhost:8000")]), Some("HOST_REFUSED"));
    }

    #[test]
    fn pages_of_other_origins_do_not() {
        let host = ("host", "localhost:8000");
        assert_eq!(admit("/v2", &[host, ("origin", "http://localhost:8000")]), None);
        for origin in ["null", "https://evil.example", "http://localhost:1", "https://localhost:8000"] {
            assert_eq!(admit("/v2", &[host, ("origin", origin)]), Some("ORIGIN_REFUSED"), "{origin}");
        }
    }

    #[test]
    fn only_the_inference_protocol_is_forwarded() {
        let host = [("host", "localhost:8000")];
        for path in ["/v2", "/v2/", "/v2/models/a-b_c.1/infer?x=1"] {
            let expected = None;
            assert_eq!(admit(path, &host), expected, "{path}");
        }
        for path in ["/", "/v1/attest", "/v2x", "/v2/../v1/attest", "/v2/%2e%2e/v1/attest", "/v2//x", "/v2/./x", "/V2"]
        {
            assert_eq!(admit(path, &host), Some("PATH_REFUSED"), "{path}");
        }
    }
}
