//! A minimal HTTP/1.0 client for servers on loopback: readiness checks and unmodified responses.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result};

/// An HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// An HTTP response.
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of a header, by its case-insensitive name.
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

/// Sends a request, up to three times if the connection breaks before a response: a server that does not read the body
/// may reset it.
pub(crate) fn send(address: &str, request: &Request<'_>) -> Result<Response> {
    let broken = |error: &anyhow::Error| error.downcast_ref::<std::io::Error>().is_some();
    for _ in 0..2 {
        match send_once(address, request) {
            Err(error) if broken(&error) => {}
            ended => return ended,
        }
    }
    send_once(address, request)
}

/// Sends a request with HTTP/1.0, so that the response ends with the connection and is not chunked.
fn send_once(address: &str, request: &Request<'_>) -> Result<Response> {
    let mut socket = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
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
    // A server that responds before it has read the body may reset the connection after its response.
    if let (Err(error), true) = (read, bytes.is_empty()) {
        return Err(error)
            .with_context(|| format!("no response from {address} to {} {}", request.method, request.path));
    }
    parse(&bytes).with_context(|| {
        format!("invalid HTTP response from {address} to {} {}", request.method, request.path)
    })
}

fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
    Some(Response { status, headers: lines.filter_map(header).collect(), body: bytes[end + 4..].to_vec() })
}

/// Sends `GET path`.
pub(crate) fn get(address: &str, path: &str) -> Result<Response> {
    send(address, &Request { method: "GET", path, headers: &[], body: &[] })
}

/// Whether a server responds at this address without a 5xx status.
pub(crate) fn responds(address: &str, path: &str) -> bool {
    get(address, path).is_ok_and(|response| response.status < 500)
}
