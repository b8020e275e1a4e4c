//! A network between Executor and a server, the API server or a database, that can be cut: packets vanish, nobody is told.
//!
//! A relay whose sockets get a packet filter that takes nothing: the kernel then drops every packet that arrives for them
//! before TCP sees it, the first of a connection too. Nothing is acknowledged, refused or reset, which is what a
//! firewall's DROP or a pulled cable looks like; a server that is killed resets connections, and clients hear of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use socket2::{SockFilter, SockRef};

/// The program of the filter: `ret #0`, which keeps no byte of any packet (linux/filter.h: `BPF_RET | BPF_K`).
const TAKE_NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// How the first line of every request ends.
const REQUEST: &[u8] = b" HTTP/1.1\r\n";

/// A local connection is there within microseconds; after this long it is not coming.
const CONNECTS_WITHIN: Duration = Duration::from_secs(1);

/// A relay to one server.
pub struct Network {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    listener: TcpListener,
    state: Mutex<State>,
    requests: AtomicU64,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    sockets: Vec<Weak<TcpStream>>,
}

impl Network {
    /// Relays every connection to the server at that `host:port`; lives as long as the test process.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            listener,
            state: Mutex::default(),
            requests: AtomicU64::new(0),
        });
        let (relay, server) = (Arc::clone(&shared), server.to_owned());
        std::thread::spawn(move || {
            for client in relay.listener.incoming().flatten() {
                // A server that is not there shows as a connection that ends at once.
                if let Ok(there) = TcpStream::connect(&*server) {
                    relay.join(client, there);
                }
            }
        });
        Self { address, shared }
    }

    /// Where the relay listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests went to the server so far, where they are HTTP/1.1 without TLS.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// From now on every packet vanishes, in both directions.
    ///
    /// # Panics
    /// When it does not work: a new connection is tried.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock().expect("no relay panics");
        state.is_cut = true;
        SockRef::from(&self.shared.listener)
            .attach_filter(&TAKE_NOTHING)
            .expect("a listener takes a filter");
        for socket in state.sockets.iter().filter_map(Weak::upgrade) {
            drop_all(&socket);
        }
        drop(state);
        assert!(!self.connects(), "the network is cut, and yet one connects");
    }

    /// The network is as before; what was sent meanwhile comes when its sender tries again.
    ///
    /// # Panics
    /// When it does not work: a new connection is tried.
    pub fn mend(&self) {
        let mut state = self.shared.state.lock().expect("no relay panics");
        state.is_cut = false;
        SockRef::from(&self.shared.listener)
            .detach_filter()
            .expect("a listener gives its filter up");
        for socket in state.sockets.iter().filter_map(Weak::upgrade) {
            // One without a filter has none to lose.
            let _ = SockRef::from(&*socket).detach_filter();
        }
        drop(state);
        assert!(self.connects(), "the network is mended, and none connects");
    }

    /// Whether a new connection comes about; one that is refused would be an answer, too.
    pub fn connects(&self) -> bool {
        match TcpStream::connect_timeout(&self.address, CONNECTS_WITHIN) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
                false
            }
        }
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        // As the programs at both ends do it: small packets at once.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client, server) = (Arc::new(client), Arc::new(server));
        let mut state = self.state.lock().expect("no relay panics");
        state.sockets.retain(|socket| socket.strong_count() > 0);
        for socket in [&client, &server] {
            state.sockets.push(Arc::downgrade(socket));
            if state.is_cut {
                drop_all(socket);
            }
        }
        drop(state);
        let (from, to, shared) = (Arc::clone(&client), Arc::clone(&server), Arc::clone(self));
        std::thread::spawn(move || {
            let mut matched = 0;
            copy(&from, &to, |bytes| {
                let count = requests(bytes, &mut matched);
                shared.requests.fetch_add(count, Ordering::Relaxed);
            });
        });
        std::thread::spawn(move || copy(&server, &client, |_| {}));
    }
}

fn drop_all(socket: &TcpStream) {
    SockRef::from(socket)
        .attach_filter(&TAKE_NOTHING)
        .expect("a connection takes a filter");
}

/// How many first lines of requests end in these bytes; `matched` is how much of such an end was seen before them. Its
/// blank is at its beginning alone, so after a mismatch it can only begin anew.
fn requests(bytes: &[u8], matched: &mut usize) -> u64 {
    let mut count = 0;
    for byte in bytes {
        *matched = match REQUEST.get(*matched) {
            Some(next) if next == byte => *matched + 1,
            _ => usize::from(*byte == REQUEST[0]),
        };
        if *matched == REQUEST.len() {
            count += 1;
            *matched = 0;
        }
    }
    count
}

/// Copies until one side ends, and tells the other; `see` sees what is copied.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mut see: impl FnMut(&[u8])) {
    let mut chunk = [0; 16 * 1024];
    loop {
        match from.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                see(&chunk[..n]);
                if to.write_all(&chunk[..n]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let address = listener.local_addr().expect("a bound address").to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || copy(&stream, &stream, |_| {}));
            }
        });
        address
    }

    fn ask(mut stream: &TcpStream) -> std::io::Result<usize> {
        stream.write_all(b"x")?;
        stream.read(&mut [0; 8])
    }

    #[test]
    fn requests_are_counted_however_they_are_cut() {
        let text = b"GET / HTTP/1.1\r\nhost: a HTTP/1.0\r\n\r\nPOST /b  HTTP/1.1\r\n\r\n";
        for cut in 0..text.len() {
            let mut matched = 0;
            let (first, second) = text.split_at(cut);
            let count = requests(first, &mut matched) + requests(second, &mut matched);
            assert_eq!(count, 2, "cut at {cut}");
        }
    }

    #[test]
    fn a_cut_network_is_silent_and_a_mended_one_delivers_what_was_sent() {
        let network = Network::to(&echo());
        let stream = TcpStream::connect(network.address()).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a timeout");
        assert_eq!(ask(&stream).expect("an answer"), 1);
        network.cut();
        let error = ask(&stream).expect_err("silence");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        network.mend();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        assert_eq!((&stream).read(&mut [0; 8]).expect("late"), 1);
    }
}
