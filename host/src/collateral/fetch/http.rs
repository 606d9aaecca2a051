//! Turns an address into one answer, politely: time limits, size caps, no redirects, waiting when the service asks for it.
//! It does not look at what the answer says; https protects the way, signatures inside protect the content.

use std::{
    io::{ErrorKind, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ring::rand::{SecureRandom as _, SystemRandom};
use ureq::{
    Agent, Proxy,
    http::{Response, Uri, header::RETRY_AFTER},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::cache::Cache;
use crate::{failure::Failure, files, verify};

/// Vendors' longest answers are below 64 KiB.
const MAX_BODY: u64 = 256 << 10;
/// Intel sends certificate chains in headers, about 2.5 KiB each.
const MAX_HEADERS: usize = 32 << 10;
const UNBELIEVED: &str = "the service does not speak TLS, or its certificate is not believed";
const ADDRESS_OR_CA: &str = "is the address right? a private authority is named with --tls-ca";
const CONNECT: Duration = Duration::from_secs(10);

/// How to ask.
pub struct Settings<'a> {
    pub tries: u32,
    pub timeout: Duration,
    pub max_wait: Duration,
    pub tls_ca: Option<&'a Path>,
    pub proxy: Option<&'a str>,
    pub allow_http: bool,
    pub cache: Option<Cache>,
    pub quiet: bool,
}

/// Asks one service, one thing after the other.
pub struct Client {
    agent: Agent,
    tries: u32,
    max_wait: Duration,
    allow_http: bool,
    cache: Option<Cache>,
    quiet: bool,
}

/// What the service answered.
#[derive(Debug)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
    /// The header that was asked for, where there was one.
    pub header: Option<String>,
}

/// One try.
enum Reply {
    Done(Answer),
    /// Worth another try: why, and how long the service wants us to wait.
    Later {
        why: String,
        after: Option<Duration>,
    },
}

impl Client {
    pub fn new(settings: Settings<'_>) -> Result<Self, Failure> {
        let roots = settings.tls_ca.map_or(Ok(RootCerts::WebPki), authorities)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
        let proxy = settings.proxy.map(Proxy::new).transpose();
        let proxy = proxy.map_err(|_| Failure::usage("--proxy is no address of a proxy", "http://HOST:PORT"))?;
        let agent = Agent::config_builder()
            .tls_config(tls)
            // Said, so that no environment variable decides it.
            .proxy(proxy)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(MAX_HEADERS)
            .timeout_connect(Some(CONNECT.min(settings.timeout)))
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("vouchsafe/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let Settings { tries, max_wait, allow_http, cache, quiet, .. } = settings;
        Ok(Self { agent, tries, max_wait, allow_http, cache, quiet })
    }

    /// Gets one thing; `headers` are names for the one header that is wanted with it.
    pub fn get(&self, what: &'static str, url: &str, headers: &[&str]) -> Result<Answer, Failure> {
        let uri = address(url, self.allow_http)?;
        let now = verify::now();
        if let Some((answer, age)) = self.cache.as_ref().and_then(|cache| cache.find(url, now)) {
            self.say(&format!("{what}: from the cache, {} h old", age / 3600));
            return Ok(answer);
        }
        for attempt in 1..=self.tries {
            match self.once(what, &uri, headers)? {
                Reply::Done(answer) => {
                    self.say(&format!("{what}: {} bytes", answer.body.len()));
                    if let Some(cache) = &self.cache {
                        cache.note(url, &answer, now);
                    }
                    return Ok(answer);
                }
                Reply::Later { why, after } => {
                    let wait = match pause(attempt, after, self.max_wait) {
                        Some(wait) if attempt < self.tries => wait,
                        other => {
                            let longer =
                                if other.is_none() { ", and wants a longer pause than --max-wait" } else { "" };
                            let fact =
                                format!("{what}: {why}{longer}; gave up after {attempt} of {} tries", self.tries);
                            let advice = "try again later; --tries and --max-wait let it wait longer";
                            return Err(Failure::new("FETCH_BUSY", 8, fact, advice));
                        }
                    };
                    self.say(&format!("{what}: {why}; next try in {:.1} s", wait.as_secs_f64()));
                    std::thread::sleep(wait);
                }
            }
        }
        // `tries` is at least 1, so the loop has returned.
        Err(Failure::usage("--tries is 0", "at least one"))
    }

    /// Keeps this run's answers for later runs: call it when they turned out to be what was asked for.
    pub fn keep(&self) -> Result<(), Failure> {
        self.cache.as_ref().map_or(Ok(()), Cache::keep)
    }

    /// Drops what this run took from the cache: call it when the answers were not what was asked for.
    pub fn forget(&self) {
        if let Some(cache) = &self.cache {
            cache.forget();
        }
    }

    fn once(&self, what: &'static str, uri: &Uri, headers: &[&str]) -> Result<Reply, Failure> {
        let mut response = match self.agent.get(uri).call() {
            Ok(response) => response,
            Err(error) => return failed(what, &error),
        };
        let status = response.status().as_u16();
        match status {
            200 => {}
            429 | 500 | 502 | 503 | 504 => {
                let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry_after);
                return Ok(Reply::Later { why: format!("the service answers {status}"), after });
            }
            300..=399 => {
                let fact = format!("{what}: the service answers {status}, a redirection, which is not followed");
                let advice = "name the final address with --url, if you believe it";
                return Err(Failure::new("FETCH_REDIRECT", 8, fact, advice));
            }
            _ => {
                let fact = format!("{what}: the service answers {status}");
                let advice = match status {
                    404 => "does this service know the chip, its versions or the family? is --url its base address?",
                    _ => "is --url the base address of the service?",
                };
                return Err(Failure::new("FETCH_STATUS", 8, fact, advice));
            }
        }
        let header = header(&response, headers);
        let mut body = Vec::new();
        match response.body_mut().as_reader().take(MAX_BODY + 1).read_to_end(&mut body) {
            Ok(_) if body.len() as u64 > MAX_BODY => {
                let fact = format!("{what}: the answer is longer than {MAX_BODY} bytes");
                Err(Failure::new("FETCH_TOO_LARGE", 8, fact, "is --url the base address of the service?"))
            }
            Ok(_) => Ok(Reply::Done(Answer { body, header })),
            Err(error) => failed(what, &ureq::Error::from(error)),
        }
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}

fn header<T>(response: &Response<T>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| response.headers().get(*name)).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// Time limits are worth another try; an address where nobody listens, or a wrong certificate, is not.
fn failed(what: &'static str, error: &ureq::Error) -> Result<Reply, Failure> {
    let fail = |code, fact: &str, advice| Err(Failure::new(code, 8, format!("{what}: {fact}"), advice));
    let network = "is the address right, and may this machine reach it (a proxy is named with --proxy)?";
    match error {
        ureq::Error::Timeout(_) => Ok(Reply::Later { why: "no complete answer in time".to_owned(), after: None }),
        ureq::Error::Io(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Ok(Reply::Later { why: "no complete answer in time".to_owned(), after: None })
        }
        ureq::Error::Io(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
            Ok(Reply::Later { why: "the connection broke".to_owned(), after: None })
        }
        // A TLS failure arrives inside an I/O error.
        ureq::Error::Io(e) if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            fail("FETCH_TLS", UNBELIEVED, ADDRESS_OR_CA)
        }
        ureq::Error::HostNotFound => fail("FETCH_UNREACHABLE", "there is no host of that name", network),
        ureq::Error::ConnectionFailed | ureq::Error::Io(_) => {
            fail("FETCH_UNREACHABLE", "the service cannot be reached", network)
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
            fail("FETCH_TLS", UNBELIEVED, ADDRESS_OR_CA)
        }
        _ => fail("FETCH_PROTOCOL", "the answer is no HTTP of the expected form", network),
    }
}

/// Seconds, or a date of HTTP's.
fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More seconds than a number holds are still too many.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    let at = u64::try_from(date.timestamp().as_second()).ok()?;
    Some(Duration::from_secs(at.saturating_sub(verify::now())))
}

/// One second, then twice as long every time, or longer when the service says so; and up to a quarter more, so that a fleet spreads.
/// Never longer than `longest`; nothing when the service wants more than that.
fn pause(attempt: u32, after: Option<Duration>, longest: Duration) -> Option<Duration> {
    let asked = after.unwrap_or(Duration::ZERO);
    if asked > longest {
        return None;
    }
    let base = asked.max(Duration::from_secs(1 << attempt.saturating_sub(1).min(10)));
    let mut random = [0];
    // Without randomness there is no jitter, nothing worse.
    let _ = SystemRandom::new().fill(&mut random);
    // Divided first: neither step can overflow.
    let jitter = base / (4 * 255) * u32::from(random[0]);
    Some(base.saturating_add(jitter).min(longest))
}

/// A base address, without the slash at its end.
pub fn base(url: &str, allow_http: bool) -> Result<String, Failure> {
    let uri = address(url, allow_http)?;
    if uri.query().is_some() {
        return Err(Failure::usage("--url has a query", "only the base: the paths of the service are added to it"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// https to anybody; http to this machine only, unless it is allowed.
fn address(url: &str, allow_http: bool) -> Result<Uri, Failure> {
    let wrong = |fact: &str, advice: &str| Err(Failure::usage(fact, advice));
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("an address is no URL", "https://HOST, with a path if need be");
    };
    let Some(host) = uri.host() else { return wrong("an address names no host", "https://HOST") };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return wrong("an address holds a name or password", "leave it out: these services want none");
    }
    let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if here || allow_http => Ok(uri),
        Some("http") => wrong("http would show everybody on the way what is asked", "use https, or say --allow-http"),
        _ => wrong("an address is neither https nor http", "https://HOST"),
    }
}

fn authorities(path: &Path) -> Result<RootCerts, Failure> {
    let pem = files::read_input(path, 1 << 20)?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let Ok(PemItem::Certificate(certificate)) = item {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(Failure::usage("--tls-ca holds no certificate", "a PEM file"));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// The answer is not what its address stands for.
pub fn malformed(what: &'static str) -> Failure {
    let advice = "is --url the base address of the service, in the version that docs/collateral.md names?";
    Failure::new("FETCH_MALFORMED", 8, format!("{what}: the answer has not the expected form"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["https://kds.example", "http://127.0.0.1:8080/", "http://localhost:1", "http://[::1]:1/x"] {
            assert!(base(good, false).is_ok(), "{good}");
        }
        for bad in [
            "",
            "kds.example",
            "ftp://a",
            "http://kds.example",
            "http://127.0.0.1.example",
            "https://u:p@a",
            "https://a?x=1",
        ] {
            assert_eq!(base(bad, false).unwrap_err().code, "USAGE", "{bad}");
        }
        assert_eq!(base("http://kds.example/", true).unwrap(), "http://kds.example");
    }

    #[test]
    fn waiting() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "in the past");
        for none in ["soon", "", "-1", "+1", "1.5"] {
            assert_eq!(retry_after(none), None, "{none}");
        }
        for endless in ["18446744073709551615", "18446744073709551616", "99999999999999999999999999"] {
            let after = retry_after(endless);
            assert_eq!(after, Some(Duration::from_secs(u64::MAX)), "{endless}");
            assert_eq!(pause(1, after, Duration::from_secs(3600)), None, "{endless}");
            assert_eq!(pause(1, after, Duration::MAX).map(|wait| wait >= Duration::from_secs(u64::MAX)), Some(true));
        }
        for (attempt, after, least) in [(1, None, 1), (3, None, 4), (1, Some(9), 9), (4, Some(0), 8)] {
            let wait = pause(attempt, after.map(Duration::from_secs), Duration::from_secs(60)).unwrap();
            let least = Duration::from_secs(least);
            assert!(wait >= least && wait <= least + least / 4, "{attempt} {after:?}: {wait:?}");
        }
        assert!(pause(u32::MAX, None, Duration::MAX).unwrap() >= Duration::from_secs(1024));
        // Our own pauses are cut, the service's wish is not.
        let minute = Duration::from_secs(60);
        assert_eq!(pause(u32::MAX, None, minute), Some(minute));
        assert_eq!(pause(u32::MAX, Some(minute), minute), Some(minute));
        assert_eq!(pause(1, Some(Duration::from_secs(61)), minute), None);
        assert_eq!(pause(1, None, Duration::ZERO), Some(Duration::ZERO));
    }
}
