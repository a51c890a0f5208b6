//! A way to a registry on which one request in ten is spoilt.

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

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    /// Answered by the way itself.
    Refused(u16),
    /// The connection is cut before it arrives.
    Reset,
    /// It is handled, and nobody hears of it.
    AnswerLost,
    /// Half of the answer's body comes.
    Cut,
    /// A bit in the middle of the answer's body is another.
    Flipped,
    /// The answer's body comes three seconds later.
    Stalled,
}

const SPOILT: [Fate; 8] = [
    Fate::Refused(429),
    Fate::Refused(500),
    Fate::Refused(503),
    Fate::Reset,
    Fate::AnswerLost,
    Fate::Cut,
    Fate::Flipped,
    Fate::Stalled,
];

/// Takes connections until it is dropped.
pub(super) struct Spoiler {
    address: String,
    ended: Arc<AtomicBool>,
}

impl Spoiler {
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
                // An error is the end of the connection, which both sides see.
                thread::spawn(move || drop(serve(&client, &upstream, &random)));
            }
        });
        Ok(Spoiler { address, ended })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Spoiler {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

fn fate(random: &Mutex<Random>) -> Fate {
    let drawn = random.lock().unwrap_or_else(PoisonError::into_inner).next() >> 16;
    match drawn % 10 {
        0 => SPOILT[(drawn / 10 % 8) as usize],
        _ => Fate::Passes,
    }
}

/// Carries the requests of one connection, until one is spoilt in a way that ends it.
fn serve(client: &TcpStream, upstream: &str, random: &Mutex<Random>) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    for socket in [client, &server] {
        socket.set_nodelay(true)?;
    }
    let (mut from_client, mut from_server) = (BufReader::new(client), BufReader::new(&server));
    let (mut to_client, mut to_server) = (client, &server);
    while let Some(request) = Head::read(&mut from_client)? {
        let fate = fate(random);
        match fate {
            Fate::Reset => return client.shutdown(Shutdown::Both),
            Fate::Refused(status) => {
                request.body(false).carry(&mut from_client, &mut io::sink(), Fate::Passes)?;
                let more = if status == 429 { "Retry-After: 1\r\n" } else { "" };
                write!(to_client, "HTTP/1.1 {status} Spoilt\r\n{more}Content-Length: 0\r\n\r\n")?;
                continue;
            }
            _ => {}
        }
        to_server.write_all(&request.bytes)?;
        request.body(false).carry(&mut from_client, &mut to_server, Fate::Passes)?;
        let Some(answer) = Head::read(&mut from_server)? else { break };
        let body = answer.body(request.is("HEAD "));
        if fate == Fate::AnswerLost || (fate == Fate::Cut && body == Framing::None) {
            body.carry(&mut from_server, &mut io::sink(), Fate::Passes)?;
            return client.shutdown(Shutdown::Both);
        }
        to_client.write_all(&answer.bytes)?;
        if fate == Fate::Stalled {
            clock::pause(Duration::from_secs(3));
        }
        body.carry(&mut from_server, &mut to_client, fate)?;
        if fate == Fate::Cut {
            return client.shutdown(Shutdown::Both);
        }
    }
    client.shutdown(Shutdown::Both)
}

/// The head of a request or an answer, as it came.
struct Head {
    bytes: Vec<u8>,
}

impl Head {
    /// `None` when the connection was ended in good order.
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

    /// How its body is framed. What answers a HEAD has none, nor have 204 and 304.
    fn body(&self, answers_head: bool) -> Framing {
        if answers_head || self.is("HTTP/1.1 204") || self.is("HTTP/1.1 304") {
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
    /// Carries the body, or what its fate leaves of it.
    fn carry(self, from: &mut impl BufRead, to: &mut impl Write, fate: Fate) -> io::Result<()> {
        match self {
            Framing::None => Ok(()),
            Framing::Length(length) => {
                let half = length / 2;
                pass(from, to, half)?;
                match fate {
                    Fate::Cut => Ok(()),
                    Fate::Flipped => {
                        let mut byte = [0];
                        from.read_exact(&mut byte)?;
                        to.write_all(&[byte[0] ^ 1])?;
                        pass(from, to, length - half - 1)
                    }
                    _ => pass(from, to, length - half),
                }
            }
            // Only requests and small answers come in chunks: they pass as they are.
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

    fn carried(body: &[u8], framing: Framing, fate: Fate) -> Vec<u8> {
        let mut carried = Vec::new();
        framing.carry(&mut io::Cursor::new(body), &mut carried, fate).unwrap();
        carried
    }

    #[test]
    fn bodies_pass_or_are_spoilt() {
        assert_eq!(carried(b"abcdrest", Framing::Length(4), Fate::Passes), b"abcd");
        assert_eq!(carried(b"abcd", Framing::Length(4), Fate::Cut), b"ab");
        assert_eq!(carried(b"abcd", Framing::Length(4), Fate::Flipped), b"abbd");
        assert_eq!(
            carried(b"3\r\nabc\r\n0\r\n\r\nrest", Framing::Chunks, Fate::Passes),
            b"3\r\nabc\r\n0\r\n\r\n"
        );
    }

    #[test]
    fn heads_tell_how_the_body_is_framed() {
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
    fn about_one_in_ten_is_spoilt_in_every_way() {
        let random = Mutex::new(Random::seeded(1));
        let fates: Vec<Fate> = (0..4_000).map(|_| fate(&random)).collect();
        let spoilt = fates.iter().filter(|fate| **fate != Fate::Passes).count();
        assert!((300..500).contains(&spoilt), "{spoilt}");
        assert!(SPOILT.iter().all(|way| fates.contains(way)));
    }
}
