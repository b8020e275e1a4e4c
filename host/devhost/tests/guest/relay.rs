//! A stretch of the way to a server that a test can cut and mend: to a client it is as if the server were killed and started again.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes bytes on between whoever connects to it and the server, until the test process ends.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    /// Both ends of what was passed on since the last cut.
    streams: Vec<(TcpStream, TcpStream)>,
    refused: usize,
}

impl Relay {
    /// A relay to the server at `server`.
    pub fn to(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let mut state = shared.lock().unwrap();
                if state.is_cut {
                    state.refused += 1;
                    continue;
                }
                let server = TcpStream::connect(server).expect("the server is there");
                pass_on(&client, &server);
                pass_on(&server, &client);
                state.streams.push((client, server));
            }
        });
        Relay { address, state }
    }

    /// Breaks all connections, and every new one from now on. Returns how many there were.
    pub fn cut(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.is_cut = true;
        let streams = std::mem::take(&mut state.streams);
        let was_open = |(client, server): &&(TcpStream, TcpStream)| {
            // Both, without regard to the first: when one is broken, the other follows by itself.
            client.shutdown(Shutdown::Both).is_ok() | server.shutdown(Shutdown::Both).is_ok()
        };
        streams.iter().filter(was_open).count()
    }

    /// Passes new connections on again. Returns how many were broken meanwhile.
    pub fn mend(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.is_cut = false;
        std::mem::take(&mut state.refused)
    }
}

fn pass_on(from: &TcpStream, to: &TcpStream) {
    let mut from = from.try_clone().expect("a socket");
    let mut to = to.try_clone().expect("a socket");
    std::thread::spawn(move || {
        // Whichever side ends it, the other sees the end.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
