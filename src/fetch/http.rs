//! The network: one request for an archive, or for what of it is lacking.

use super::answer::{Body, Cut};
use super::{Options, Set};
use std::io::{self, ErrorKind};
use std::sync::LazyLock;
use std::time::Duration;
use ureq::Agent;

/// A server that does not answer for so long is not there.
const ANSWER: Duration = Duration::from_secs(30);
/// What a server says that has no byte behind those that are there.
const NOTHING_THERE: u16 = 416;
/// What the system says of a connection that was there.
const CUT: [ErrorKind; 5] = [
    ErrorKind::UnexpectedEof,
    ErrorKind::ConnectionReset,
    ErrorKind::ConnectionAborted,
    ErrorKind::BrokenPipe,
    ErrorKind::TimedOut,
];
/// Statuses of a server that may answer at another time.
const LATER: [u16; 5] = [408, 429, 502, 503, 504];

/// Follows redirections and the variables of proxies, as curl does.
static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let config = Agent::config_builder()
        .timeout_resolve(Some(ANSWER))
        .timeout_connect(Some(ANSWER))
        .timeout_recv_response(Some(ANSWER))
        .http_status_as_error(false)
        .user_agent(concat!("sim/", env!("CARGO_PKG_VERSION")))
        .build();
    config.into()
});

/// Asks for the archive of `set`, behind the first `there` bytes.
pub fn get(set: &Set, options: &Options, there: u64) -> Result<Body, Cut> {
    let url = options.from.as_ref().unwrap_or(&set.url);
    let mut request = AGENT.get(url);
    if there > 0 {
        request = request.header("Range", format!("bytes={there}-"));
    }
    let response = request.call().map_err(|error| cut(error, url))?;
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let from = match response.status().as_u16() {
        200 => 0,
        // "bytes 100-199/200"
        206 if text("content-range").is_some_and(|range| range.starts_with(&format!("bytes {there}-"))) => {
            there
        }
        206 => return Err(Cut::Final(format!("{url}: the server sends another part than was asked for"))),
        NOTHING_THERE => return Err(Cut::StartOver),
        status => {
            let what = format!("{url}: the server answers with the status {}", response.status());
            return Err(if LATER.contains(&status) { Cut::Again(what) } else { Cut::Final(what) });
        }
    };
    Ok(Body { from, reader: Box::new(response.into_body().into_reader()) })
}

/// Whether another try may help: a mistake in the address stays one.
fn cut(error: ureq::Error, url: &str) -> Cut {
    let said = match &error {
        ureq::Error::HostNotFound => "its name is not known".into(),
        ureq::Error::Io(error) => reason(error),
        error => error.to_string(),
    };
    let what = format!("cannot reach {url}: {said}");
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Cut::Away(what),
        ureq::Error::Io(error) if CUT.contains(&error.kind()) => Cut::Again(what),
        // A name that is not known, a network that is not there.
        ureq::Error::Io(_) => Cut::Away(what),
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => Cut::Again(what),
        _ => Cut::Final(what),
    }
}

/// The system's reason without the number that Rust adds to it.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "the connection was refused".into(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "the connection was cut".into(),
        _ => error.to_string(),
    }
}
