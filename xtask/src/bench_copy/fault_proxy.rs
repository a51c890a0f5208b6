//! An HTTP proxy that injects a fault into one request in ten.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use super::images::Random;
use crate::clock;

/// The fault injected into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The proxy responds with this status itself.
    Status(u16),
    /// The connection is closed before the request is forwarded.
    Reset,
    /// The request is processed, and its response is dropped.
    ResponseLost,
    /// The response body is truncated to half.
    Truncated,
    /// A bit in the middle of the response body is flipped.
    Flipped,
    /// The response body is delayed by three seconds.
    Stalled,
}

const FAULTS: [Fault; 8] = [
    Fault::Status(429),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Reset,
    Fault::ResponseLost,
    Fault::Truncated,
    Fault::Flipped,
    Fault::Stalled,
];

/// Accepts connections until it is dropped.
pub(super) struct FaultProxy {
    address: String,
    ended: Arc<AtomicBool>,
}

impl FaultProxy {
    pub(super) fn start(upstream: &str, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?.to_string();
        let ended = Arc::new(AtomicBool::new(false));
        let random = Arc::new(Mutex::new(Random::seeded(seed)));
        let (upstream, over) = (upstream.to_owned(), Arc::clone(&ended));
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), upstream, random) = (client, upstream.clone(), Arc::clone(&random)) else {
                    continue;
                };
                // An error closes the connection on both sides.
                thread::spawn(move || drop(serve(&client, &upstream, &random)));
            }
        });
        Ok(FaultProxy { address, ended })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

fn draw(random: &Mutex<Random>) -> Fault {
    let drawn = random.lock().unwrap_or_else(PoisonError::into_inner).next() >> 16;
    match drawn % 10 {
        0 => FAULTS[(drawn / 10 % 8) as usize],
        _ => Fault::None,
    }
}

/// Forwards the requests of one connection, until a fault closes it.
fn serve(client: &TcpStream, upstream: &str, random: &Mutex<Random>) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    for socket in [client, &server] {
        socket.set_nodelay(true)?;
    }
    let (mut from_client, mut from_server) = (BufReader::new(client), BufReader::new(&server));
    let (mut to_client, mut to_server) = (client, &server);
    while let Some(request) = Head::read(&mut from_client)? {
        let fault = draw(random);
        match fault {
            Fault::Reset => return client.shutdown(Shutdown::Both),
            Fault::Status(status) => {
                request.body(false).forward(&mut from_client, &mut io::sink(), Fault::None)?;
                let more = if status == 429 { "Retry-After: 1\r\n" } else { "" };
                write!(to_client, "HTTP/1.1 {status} Injected\r\n{more}Content-Length: 0\r\n\r\n")?;
                continue;
            }
            _ => {}
        }
        to_server.write_all(&request.bytes)?;
        request.body(false).forward(&mut from_client, &mut to_server, Fault::None)?;
        let Some(response) = Head::read(&mut from_server)? else { break };
        let body = response.body(request.is("HEAD "));
        if fault == Fault::ResponseLost || (fault == Fault::Truncated && body == Framing::None) {
            body.forward(&mut from_server, &mut io::sink(), Fault::None)?;
            return client.shutdown(Shutdown::Both);
        }
        to_client.write_all(&response.bytes)?;
        if fault == Fault::Stalled {
            clock::pause(Duration::from_secs(3));
        }
        body.forward(&mut from_server, &mut to_client, fault)?;
        if fault == Fault::Truncated {
            return client.shutdown(Shutdown::Both);
        }
    }
    client.shutdown(Shutdown::Both)
}

/// The unmodified head of a request or response.
struct Head {
    bytes: Vec<u8>,
}

impl Head {
    /// Returns `None` if the connection was closed normally.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            if from.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            if bytes[start..] == *b"\r\n" {
                return Ok(Some(Head { bytes }));
            }
        }
    }

    fn is(&self, start: &str) -> bool {
        self.bytes.starts_with(start.as_bytes())
    }

    fn header(&self, name: &str) -> Option<String> {
        String::from_utf8_lossy(&self.bytes).lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
        })
    }

    /// The framing of the body. Responses to HEAD, and 204 and 304, have no body.
    fn body(&self, responds_to_head: bool) -> Framing {
        if responds_to_head || self.is("HTTP/1.1 204") || self.is("HTTP/1.1 304") {
            return Framing::None;
        }
        if self.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            return Framing::Chunks;
        }
        match self.header("content-length").and_then(|value| value.parse().ok()) {
            Some(length @ 1..) => Framing::Length(length),
            _ => Framing::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunks,
}

impl Framing {
    /// Forwards the body, with the fault applied.
    fn forward(self, from: &mut impl BufRead, to: &mut impl Write, fault: Fault) -> io::Result<()> {
        match self {
            Framing::None => Ok(()),
            Framing::Length(length) => {
                let half = length / 2;
                pass(from, to, half)?;
                match fault {
                    Fault::Truncated => Ok(()),
                    Fault::Flipped => {
                        let mut byte = [0];
                        from.read_exact(&mut byte)?;
                        to.write_all(&[byte[0] ^ 1])?;
                        pass(from, to, length - half - 1)
                    }
                    _ => pass(from, to, length - half),
                }
            }
            // Only requests and small responses are chunked: they are forwarded unmodified.
            Framing::Chunks => loop {
                let mut line = Vec::new();
                from.read_until(b'\n', &mut line)?;
                to.write_all(&line)?;
                let size = String::from_utf8_lossy(&line);
                let size = u64::from_str_radix(size.trim().split(';').next().unwrap_or_default(), 16);
                let size = size.map_err(io::Error::other)?;
                pass(from, to, size + 2)?;
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }
}

fn pass(from: &mut impl BufRead, to: &mut impl Write, length: u64) -> io::Result<()> {
    let passed = io::copy(&mut from.take(length), to)?;
    if passed == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(body: &[u8], framing: Framing, fault: Fault) -> Vec<u8> {
        let mut forwarded = Vec::new();
        framing.forward(&mut io::Cursor::new(body), &mut forwarded, fault).unwrap();
        forwarded
    }

    #[test]
    fn forwards_bodies_with_or_without_a_fault() {
        assert_eq!(forwarded(b"abcdrest", Framing::Length(4), Fault::None), b"abcd");
        assert_eq!(forwarded(b"abcd", Framing::Length(4), Fault::Truncated), b"ab");
        assert_eq!(forwarded(b"abcd", Framing::Length(4), Fault::Flipped), b"abbd");
        assert_eq!(
            forwarded(b"3\r\nabc\r\n0\r\n\r\nrest", Framing::Chunks, Fault::None),
            b"3\r\nabc\r\n0\r\n\r\n"
        );
    }

    #[test]
    fn reads_the_framing_of_the_body_from_the_head() {
        let head = |text: &str| Head::read(&mut io::Cursor::new(text.as_bytes())).unwrap().unwrap();
        let sized = head("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nbody");
        assert_eq!((sized.body(false), sized.body(true)), (Framing::Length(7), Framing::None));
        assert_eq!(
            head("PATCH / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").body(false),
            Framing::Chunks
        );
        assert!(Head::read(&mut io::Cursor::new(b"")).unwrap().is_none());
    }

    #[test]
    fn about_one_request_in_ten_gets_a_fault_of_every_kind() {
        let random = Mutex::new(Random::seeded(1));
        let faults: Vec<Fault> = (0..4_000).map(|_| draw(&random)).collect();
        let faulty = faults.iter().filter(|fault| **fault != Fault::None).count();
        assert!((300..500).contains(&faulty), "{faulty}");
        assert!(FAULTS.iter().all(|fault| faults.contains(fault)));
    }
}
