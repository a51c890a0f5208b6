//! Single requests to servers on loopback: whether they are up, and what they answer to the letter.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result};

/// A request to be made.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The header's value; names are compared without regard to case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All headers.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Makes one request, up to three times when the connection breaks before an answer: a server that does not read a
/// body may reset it.
pub(crate) fn send(address: &str, request: &Request<'_>) -> Result<Answer> {
    let broken = |error: &anyhow::Error| error.downcast_ref::<std::io::Error>().is_some();
    for _ in 0..2 {
        match send_once(address, request) {
            Err(error) if broken(&error) => {}
            ended => return ended,
        }
    }
    send_once(address, request)
}

/// HTTP/1.0, so that the answer ends with the connection and needs no decoding.
fn send_once(address: &str, request: &Request<'_>) -> Result<Answer> {
    let mut socket = TcpStream::connect(address).with_context(|| format!("nobody listens at {address}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = format!("{} {} HTTP/1.0\r\nHost: {address}\r\n", request.method, request.path);
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !request.body.is_empty() || matches!(request.method, "POST" | "PUT" | "PATCH") {
        head.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
    }
    socket.write_all(head.as_bytes())?;
    socket.write_all(b"\r\n")?;
    socket.write_all(request.body)?;
    let mut bytes = Vec::new();
    let read = socket.read_to_end(&mut bytes);
    // A server that answers before it has read the body may reset the connection after its answer.
    if let (Err(error), true) = (read, bytes.is_empty()) {
        return Err(error)
            .with_context(|| format!("{address} answers nothing to {} {}", request.method, request.path));
    }
    parse(&bytes).with_context(|| format!("{address} answers no HTTP to {} {}", request.method, request.path))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
    Some(Answer { status, headers: lines.filter_map(header).collect(), body: bytes[end + 4..].to_vec() })
}

/// `GET path`.
pub(crate) fn get(address: &str, path: &str) -> Result<Answer> {
    send(address, &Request { method: "GET", path, headers: &[], body: &[] })
}

/// Whether a server answers HTTP there without an error of its own.
pub(crate) fn answers(address: &str, path: &str) -> bool {
    get(address, path).is_ok_and(|answer| answer.status < 500)
}
