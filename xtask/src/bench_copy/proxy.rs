//! A TCP proxy that adds latency: each byte is delayed by half a round trip, and each new connection by one round
//! trip.

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

/// The maximum number of bytes to move at a time.
const CHUNK: usize = 256 << 10;
/// Pipe capacity for bytes in transit in one direction of a connection.
#[cfg(target_os = "linux")]
const PIPE_CAPACITY: i32 = 4 << 20;

/// Accepts connections until it is dropped.
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
                thread::spawn(move || forward(client, &upstream, round_trip));
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
        // The listener checks the flag only when a connection arrives.
        let _ = TcpStream::connect(&self.address);
    }
}

/// Forwards one connection. An error closes it on both sides.
fn forward(client: TcpStream, upstream: &str, round_trip: Duration) {
    clock::pause(round_trip);
    let Ok(server) = TcpStream::connect(upstream) else { return };
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    let requests = thread::spawn(move || forward_delayed(client_too, server_too, round_trip / 2));
    forward_delayed(server, client, round_trip / 2);
    let _ = requests.join();
}

/// Forwards the bytes of one direction with `delay`. They wait in a pipe, which the kernel fills and empties without
/// copying, so that the proxy uses hardly any of the CPU that is measured.
fn forward_delayed(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let Ok((mut pipe_out, mut pipe_in)) = io::pipe() else { return };
    let (sender, receiver) = mpsc::channel::<(Moment, usize)>();
    let _ = to.set_nodelay(true);
    widen(&pipe_in);
    let writer = thread::spawn(move || {
        for (due, length) in receiver {
            due.wait();
            if write(&mut pipe_out, &mut to, length).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    while let Ok(length @ 1..) = read(&mut from, &mut pipe_in) {
        if sender.send((Moment::after(delay), length)).is_err() {
            break;
        }
    }
    drop((sender, pipe_in));
    let _ = writer.join();
}

/// Enlarges the pipe to the bytes that a fast network transfers in half a round trip.
#[cfg(target_os = "linux")]
fn widen(pipe: &PipeWriter) {
    use nix::fcntl::{FcntlArg, fcntl};
    // The full size requires root; other users have a lower limit.
    for size in [PIPE_CAPACITY, 1 << 20] {
        if fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size)).is_ok() {
            return;
        }
    }
}

/// Waits for bytes and moves them into the pipe.
#[cfg(target_os = "linux")]
fn read(from: &mut TcpStream, pipe: &mut PipeWriter) -> io::Result<usize> {
    // `splice` locks the pipe while it waits for the socket: the other thread could not read from it.
    if from.peek(&mut [0])? == 0 {
        return Ok(0);
    }
    Ok(nix::fcntl::splice(from, None, pipe, None, CHUNK, nix::fcntl::SpliceFFlags::empty())?)
}

/// Moves `length` bytes out of the pipe.
#[cfg(target_os = "linux")]
fn write(pipe: &mut PipeReader, to: &mut TcpStream, length: usize) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        left -=
            nix::fcntl::splice(&mut *pipe, None, &mut *to, None, left, nix::fcntl::SpliceFFlags::empty())?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn widen(_: &PipeWriter) {}

#[cfg(not(target_os = "linux"))]
fn read(from: &mut TcpStream, pipe: &mut PipeWriter) -> io::Result<usize> {
    let mut chunk = [0; 64 << 10];
    let length = from.read(&mut chunk)?;
    pipe.write_all(&chunk[..length])?;
    Ok(length)
}

#[cfg(not(target_os = "linux"))]
fn write(pipe: &mut PipeReader, to: &mut TcpStream, length: usize) -> io::Result<()> {
    let mut chunk = vec![0; length];
    pipe.read_exact(&mut chunk)?;
    to.write_all(&chunk)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn delays_each_round_trip_and_each_new_connection() {
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
        assert!(clock::timed(&mut echo).1 >= 2 * round_trip, "including the connection");
        assert!(clock::timed(&mut echo).1 >= round_trip);
    }
}
