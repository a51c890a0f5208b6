//! A longer way to a server on loopback: what goes in comes out half a round trip later, and a connection takes one
//! round trip to stand.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::clock::{self, Moment};

/// Pieces under way in one direction of a connection; with [`PIECE`], what a fast network holds in half a round trip.
const PIECES: usize = 64;
const PIECE: usize = 256 << 10;

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

/// Carries what comes in one direction, `delay` later.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, receiver) = mpsc::sync_channel::<(Moment, Vec<u8>)>(PIECES);
    let _ = to.set_nodelay(true);
    let writer = thread::spawn(move || {
        for (due, piece) in receiver {
            due.wait();
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if sender.send((Moment::after(delay), buffer[..read].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    let _ = writer.join();
}

#[cfg(test)]
mod tests {
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
