//! A longer way to a server on loopback: what goes in comes out half a round trip later, and a connection takes one
//! round trip to stand.

use std::{
    io::{self, PipeReader, PipeWriter},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

#[cfg(not(target_os = "linux"))]
use std::io::{Read as _, Write as _};

use anyhow::Result;

use crate::clock::{self, Moment};

/// The most that is moved at a time.
const PIECE: usize = 256 << 10;
/// Room for what is under way in one direction of a connection.
#[cfg(target_os = "linux")]
const WAY: i32 = 4 << 20;

/// Takes connections until it is dropped.
pub(super) struct Proxy {
    address: String,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    pub(super) fn start(upstream: &str, round_trip: Duration) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?.to_string();
        let ended = Arc::new(AtomicBool::new(false));
        let (upstream, over) = (upstream.to_owned(), Arc::clone(&ended));
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), upstream) = (client, upstream.clone()) else { continue };
                thread::spawn(move || join(client, &upstream, round_trip));
            }
        });
        Ok(Proxy { address, ended })
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The listener sees that only when somebody comes.
        let _ = TcpStream::connect(&self.address);
    }
}

/// Carries one connection. An error is the end of it, which both sides see.
fn join(client: TcpStream, upstream: &str, round_trip: Duration) {
    clock::pause(round_trip);
    let Ok(server) = TcpStream::connect(upstream) else { return };
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    let there = thread::spawn(move || carry(client_too, server_too, round_trip / 2));
    carry(server, client, round_trip / 2);
    let _ = there.join();
}

/// Carries what comes in one direction, `delay` later. The bytes wait in a pipe, which the kernel fills and empties
/// without copying them: a longer way costs those who are measured next to nothing of the machine.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let Ok((mut way_out, mut way_in)) = io::pipe() else { return };
    let (sender, receiver) = mpsc::channel::<(Moment, usize)>();
    let _ = to.set_nodelay(true);
    widen(&way_in);
    let writer = thread::spawn(move || {
        for (due, length) in receiver {
            due.wait();
            if give(&mut way_out, &mut to, length).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    while let Ok(length @ 1..) = take(&mut from, &mut way_in) {
        if sender.send((Moment::after(delay), length)).is_err() {
            break;
        }
    }
    drop((sender, way_in));
    let _ = writer.join();
}

/// What a fast network holds in half a round trip.
#[cfg(target_os = "linux")]
fn widen(way: &PipeWriter) {
    use nix::fcntl::{FcntlArg, fcntl};
    // As root; others get what is allowed to them.
    for size in [WAY, 1 << 20] {
        if fcntl(way, FcntlArg::F_SETPIPE_SZ(size)).is_ok() {
            return;
        }
    }
}

/// Waits, and moves what has come so far.
#[cfg(target_os = "linux")]
fn take(from: &mut TcpStream, way: &mut PipeWriter) -> io::Result<usize> {
    // The kernel holds the pipe while it waits for a socket: nothing could be given meanwhile.
    if from.peek(&mut [0])? == 0 {
        return Ok(0);
    }
    Ok(nix::fcntl::splice(from, None, way, None, PIECE, nix::fcntl::SpliceFFlags::empty())?)
}

/// Moves on what is due.
#[cfg(target_os = "linux")]
fn give(way: &mut PipeReader, to: &mut TcpStream, length: usize) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        left -= nix::fcntl::splice(&mut *way, None, &mut *to, None, left, nix::fcntl::SpliceFFlags::empty())?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn widen(_: &PipeWriter) {}

#[cfg(not(target_os = "linux"))]
fn take(from: &mut TcpStream, way: &mut PipeWriter) -> io::Result<usize> {
    let mut piece = [0; 64 << 10];
    let length = from.read(&mut piece)?;
    way.write_all(&piece[..length])?;
    Ok(length)
}

#[cfg(not(target_os = "linux"))]
fn give(way: &mut PipeReader, to: &mut TcpStream, length: usize) -> io::Result<()> {
    let mut piece = vec![0; length];
    way.read_exact(&mut piece)?;
    to.write_all(&piece)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_round_trip_takes_its_time_and_so_does_the_connection() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let upstream = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut server, _) = listener.accept().unwrap();
            let mut buffer = [0; 4];
            while let Ok(read @ 1..) = server.read(&mut buffer) {
                server.write_all(&buffer[..read]).unwrap();
            }
        });
        let round_trip = Duration::from_millis(40);
        let proxy = Proxy::start(&upstream, round_trip).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        let mut echo = || {
            let mut answer = [0; 4];
            client.write_all(b"ping").unwrap();
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"ping");
        };
        assert!(clock::timed(&mut echo).1 >= 2 * round_trip, "with the connection");
        assert!(clock::timed(&mut echo).1 >= round_trip);
    }
}
