//! A way to a server that can be made narrow (bytes towards it pass at most so fast) or long (bytes towards it are on their way for so long).

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::wait::block_on;

/// The most that passes at once, and that the kernel may hold for a connection.
const PORTION: u32 = 16 << 10;

/// Most portions of a connection that are on their way at once.
const MAX_ON_THEIR_WAY: usize = 256;

/// Takes connections on a port of its own and hands them on. Dropped, it takes no more.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    width: Arc<Width>,
    ended: Arc<AtomicBool>,
}

/// How fast all connections together may be.
struct Width {
    /// Bytes a second; 0 is as fast as can be.
    rate: AtomicU64,
    /// When the next byte may pass.
    next: Mutex<Instant>,
    /// How long each byte is on its way, in microseconds.
    length: AtomicU64,
}

impl Proxy {
    /// In front of a server on this machine; as fast as can be.
    pub fn before(port: u16) -> Self {
        let listener = listener();
        let address = listener.local_addr().expect("it is bound");
        let width =
            Arc::new(Width { rate: AtomicU64::new(0), next: Mutex::new(Instant::now()), length: AtomicU64::new(0) });
        let ended = Arc::new(AtomicBool::new(false));
        let proxy = Self { address, width: Arc::clone(&width), ended: Arc::clone(&ended) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else { continue };
                join(client, server, &width);
            }
        });
        proxy
    }

    /// From now on so many bytes a second pass towards the server; 0 is as fast as can be.
    pub fn narrow(&self, bytes_per_second: u64) {
        self.width.rate.store(bytes_per_second, Ordering::Release);
    }
}

impl Proxy {
    /// From now on what is sent towards the server is so long on its way: a round trip takes as much longer.
    pub fn lengthen(&self, way: Duration) {
        self.width.length.store(u64::try_from(way.as_micros()).expect("hours at most"), Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl Width {
    /// Waits until so many bytes may pass.
    fn pass(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::Acquire);
        if rate == 0 {
            return;
        }
        let wait = {
            let mut next = self.next.lock().expect("nobody panics with it");
            let now = Instant::now();
            let at = (*next).max(now);
            *next = at + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *next - now
        };
        std::thread::sleep(wait);
    }
}

/// Small buffers, so that what is on its way is soon there.
fn listener() -> TcpListener {
    block_on(async {
        let socket = TcpSocket::new_v4().expect("sockets can be made");
        socket.set_recv_buffer_size(PORTION).expect("buffers can be small");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
        let listener = socket.listen(64).expect("it can listen").into_std().expect("it is a socket");
        listener.set_nonblocking(false).expect("it can block");
        listener
    })
}

fn join(client: TcpStream, server: TcpStream, width: &Arc<Width>) {
    let (from, to) = (client.try_clone().expect("a socket can be shared"), server.try_clone().expect("the same"));
    let width = Arc::clone(width);
    std::thread::spawn(move || carry_slowly(&from, &to, &width));
    std::thread::spawn(move || carry(&server, &client));
}

/// Until either side ends; then both do. What was read is handed on when its way is behind it.
fn carry_slowly(mut from: &TcpStream, mut to: &TcpStream, width: &Width) {
    let (sender, on_their_way) = sync_channel::<(Instant, Vec<u8>)>(MAX_ON_THEIR_WAY);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (arrives, portion) in on_their_way {
                std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
                if to.write_all(&portion).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
        let mut portion = vec![0; PORTION as usize];
        while let Ok(read @ 1..) = from.read(&mut portion) {
            width.pass(read);
            let arrives = Instant::now() + Duration::from_micros(width.length.load(Ordering::Acquire));
            if sender.send((arrives, portion[..read].to_vec())).is_err() {
                break;
            }
        }
        drop(sender);
    });
}

/// Until either side ends; then both do.
fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    let mut portion = vec![0; PORTION as usize];
    while let Ok(read @ 1..) = from.read(&mut portion) {
        if to.write_all(&portion[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
