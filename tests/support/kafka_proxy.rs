//! A way to Kafka on which one request can be held up and its client be cut off: the broker gets it much later, when the client has long
//! gone on on another connection. One request or its answer can be lost, late, or doubled. Or requests of one kind are answered as the last one was:
//! by a broker that learned nothing since.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Kinds of requests, by the protocol's numbers.
pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;
pub const METADATA: i16 = 3;
pub const OFFSET_FETCH: i16 = 9;
pub const FIND_COORDINATOR: i16 = 10;
pub const INIT_PRODUCER_ID: i16 = 22;
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
pub const END_TXN: i16 = 26;
pub const TXN_OFFSET_COMMIT: i16 = 28;

/// What happens to a request or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The connection breaks before the broker has the request.
    RequestLost,
    /// The broker has it later.
    RequestLate,
    /// The broker has it twice.
    RequestTwice,
    /// The connection breaks when the broker has answered.
    AnswerLost,
    /// The answer comes later.
    AnswerLate,
}

/// All of them.
pub const WAYS: [Way; 5] = [Way::RequestLost, Way::RequestLate, Way::RequestTwice, Way::AnswerLost, Way::AnswerLate];
/// How much later.
const LATE: Duration = Duration::from_millis(300);

/// By what the broker calls itself.
const HOST: &str = "127.0.0.1";
/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// How long a broker that learned nothing takes for an answer.
const TAKES: Duration = Duration::from_millis(50);

/// Takes connections on a port of its own and hands them on; the broker's answers name that port too. Dropped, it takes no more.
pub struct KafkaProxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    ended: Arc<AtomicBool>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What is to happen next.
#[derive(Clone, Copy)]
struct Fault {
    kind: i16,
    /// How many requests of the kind are left alone before it.
    after: usize,
    way: Way,
}

/// Of a connection, the request whose answer meets a fault.
type Awaited = Arc<Mutex<Option<([u8; 4], Way)>>>;

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    /// The kind of request that is to be held up next.
    wanted: Option<i16>,
    /// Before which request it is sent: the kind, and how many of it are let pass before that.
    before: Option<(i16, usize)>,
    held: Option<Held>,
    /// The number by which its answer is known.
    number: Option<[u8; 4]>,
    answer: Option<Vec<u8>>,
    /// Of this kind the last answer is kept.
    watched: Option<i16>,
    /// Requests of that kind without an answer: their connection and number.
    unanswered: Vec<(u16, [u8; 4])>,
    last: Option<Vec<u8>>,
    /// Whether the broker learns nothing any more.
    is_stale: bool,
    /// How many requests were answered so.
    old_answers: usize,
}

/// The broker's port, and what stands for its address in answers.
#[derive(Clone, Copy)]
struct Names {
    port: u16,
    host: &'static str,
    by: u16,
}

struct Held {
    server: TcpStream,
    request: Vec<u8>,
}

impl KafkaProxy {
    /// In front of a broker's listener without security on this machine.
    pub fn before(bootstrap: &str) -> Self {
        Self::advertising(bootstrap, "127.0.0.1")
    }

    /// The same; the broker's answers name it by another host, whose name is as long.
    pub fn advertising(bootstrap: &str, host: &'static str) -> Self {
        assert_eq!(host.len(), HOST.len(), "an answer keeps its length");
        let server: SocketAddr = bootstrap.parse().expect("an address on this machine");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let ended = Arc::new(AtomicBool::new(false));
        let proxy = Self { address, shared: Arc::clone(&shared), ended: Arc::clone(&ended) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(client), Ok(to)) = (client, TcpStream::connect(server)) else { continue };
                join(client, to, &shared, Names { port: server.port(), host, by: address.port() });
            }
        });
        proxy
    }

    /// The next request of this kind is held up, and its client cut off. It is sent when so many requests of another kind have passed since,
    /// before the next one of them.
    pub fn hold(&self, kind: i16, passed: usize, of: i16) {
        let mut state = self.shared.state();
        *state = State { wanted: Some(kind), before: Some((of, passed)), ..State::default() };
    }

    /// From now on the last answer to a request of this kind is kept.
    pub fn watch(&self, kind: i16) {
        *self.shared.state() = State { watched: Some(kind), ..State::default() };
    }

    /// From now on requests of that kind are answered as the last one was, those included that are under way; or by the broker again.
    pub fn learns_nothing(&self, is_stale: bool) {
        let mut state = self.shared.state();
        assert!(!is_stale || state.last.is_some(), "none was answered");
        state.is_stale = is_stale;
        state.old_answers = 0;
    }

    /// How many requests were answered as one before them, since the broker learned nothing.
    pub fn old_answers(&self) -> usize {
        self.shared.state().old_answers
    }

    /// So many requests of this kind of a lane's producer pass; then this happens to the next one.
    pub fn disturb(&self, kind: i16, after: usize, way: Way) {
        self.shared.state().fault = Some(Fault { kind, after, way });
    }

    /// Whether it has happened.
    pub fn has_disturbed(&self) -> bool {
        self.shared.state().fault.is_none()
    }

    /// Whether a request is held up, or was.
    pub fn has_held(&self) -> bool {
        self.shared.state().wanted.is_none()
    }

    /// The broker's answer to the request that was held up, once it was sent: the frame after its length.
    pub fn answer(&self) -> Option<Vec<u8>> {
        self.shared.state().answer.clone()
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Keeps the request, if it is the one that is to be held up.
    fn holds(&self, request: &[u8], server: &TcpStream) -> bool {
        let mut state = self.state();
        let is_wanted = state.wanted == Some(kind(request));
        if is_wanted {
            state.wanted = None;
            let server = server.try_clone().expect("a socket can be shared");
            state.number = request[4..8].try_into().ok();
            state.held = Some(Held { server, request: request.to_vec() });
        }
        is_wanted
    }

    /// What a broker that learned nothing answers to this request, if it does.
    fn old_answer(&self, connection: u16, request: &[u8]) -> Option<Vec<u8>> {
        let mut state = self.state();
        if state.watched != Some(kind(request)) {
            return None;
        }
        let number: [u8; 4] = request[4..8].try_into().ok()?;
        if state.is_stale {
            state.old_answers += 1;
            return state.last.as_ref().map(|last| numbered(last, number));
        }
        state.unanswered.push((connection, number));
        None
    }

    /// Keeps the answer, if it is of the kind that is watched. Where the broker learns nothing, it becomes the one before.
    fn learn(&self, connection: u16, answer: &mut Vec<u8>) {
        let mut state = self.state();
        let is_its = |(on, number): &(u16, [u8; 4])| *on == connection && answer.starts_with(number);
        let Some(place) = state.unanswered.iter().position(is_its) else { return };
        let (_, number) = state.unanswered.swap_remove(place);
        match &state.last {
            Some(last) if state.is_stale => *answer = numbered(last, number),
            _ => state.last = Some(answer.clone()),
        }
    }

    /// What happens to this request, if anything does.
    fn disturbs(&self, request: &[u8]) -> Option<Way> {
        let mut state = self.state();
        let is_it = |fault: &&mut Fault| fault.kind == kind(request) && is_of_a_producer(request);
        let fault = state.fault.as_mut().filter(is_it)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        state.fault.take().map(|fault| fault.way)
    }

    /// Whether the held request is to be sent before this one.
    fn is_due(&self, request: &[u8]) -> bool {
        let mut state = self.state();
        let State { held: Some(_), before: Some((of, left)), .. } = &mut *state else { return false };
        if *of != kind(request) {
            return false;
        }
        let due = *left == 0;
        *left = left.saturating_sub(1);
        due
    }

    /// Sends the held request and waits for its answer.
    fn release(&self) {
        let Some(held) = self.state().held.take() else { return };
        write_frame(&held.server, &held.request).expect("the broker still listens");
        let state = self.state();
        let answered = self.changed.wait_timeout_while(state, ANSWERED_WITHIN, |state| state.answer.is_none());
        drop(answered.expect("nobody panics with it"));
    }

    /// Keeps the answer that comes for a client that was cut off, if it is that to the held request.
    fn keeps(&self, answer: Vec<u8>) {
        let mut state = self.state();
        if state.number.is_some_and(|number| answer.starts_with(&number)) {
            state.answer = Some(answer);
            self.changed.notify_all();
        }
    }
}

fn join(client: TcpStream, server: TcpStream, shared: &Arc<Shared>, names: Names) {
    let (from, to) = (client.try_clone().expect("a socket can be shared"), server.try_clone().expect("the same"));
    let unanswered = Arc::new(AtomicUsize::new(0));
    let (asking, counted) = (Arc::clone(shared), Arc::clone(&unanswered));
    let awaited = Awaited::default();
    let noted = Arc::clone(&awaited);
    std::thread::spawn(move || ask(&from, &to, &asking, &counted, &noted));
    let shared = Arc::clone(shared);
    std::thread::spawn(move || answer(&server, &client, &shared, &unanswered, names, &awaited));
}

/// Hands requests on, until the client ends or is cut off.
fn ask(client: &TcpStream, server: &TcpStream, shared: &Shared, unanswered: &AtomicUsize, awaited: &Awaited) {
    let connection = port(client);
    while let Ok(request) = read_frame(client) {
        if let Some(answer) = shared.old_answer(connection, &request) {
            std::thread::sleep(TAKES);
            if write_frame(client, &answer).is_err() {
                break;
            }
            continue;
        }
        if shared.holds(&request, server) {
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
        match shared.disturbs(&request) {
            Some(Way::RequestLost) => {
                let _ = client.shutdown(Shutdown::Both);
                break;
            }
            Some(Way::RequestLate) => std::thread::sleep(LATE),
            Some(Way::RequestTwice) => {
                let _ = write_frame(server, &request);
            }
            Some(way) => {
                let number = request[4..8].try_into().expect("four bytes");
                *awaited.lock().expect("nobody panics with it") = Some((number, way));
            }
            None => {}
        }
        if shared.is_due(&request) {
            // What went before on this connection has arrived.
            while unanswered.load(Ordering::Acquire) > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            shared.release();
        }
        unanswered.fetch_add(1, Ordering::AcqRel);
        if write_frame(server, &request).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

/// Hands answers back; of a client that was cut off, the one that still comes is kept.
fn answer(
    server: &TcpStream,
    client: &TcpStream,
    shared: &Shared,
    unanswered: &AtomicUsize,
    names: Names,
    awaited: &Awaited,
) {
    let connection = port(client);
    while let Ok(mut answer) = read_frame(server) {
        match awaited.lock().expect("nobody panics with it").take_if(|(number, _)| answer.starts_with(number)) {
            Some((_, Way::AnswerLost)) => {
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
                return;
            }
            Some(_) => std::thread::sleep(LATE),
            None => {}
        }
        unanswered.fetch_sub(1.min(unanswered.load(Ordering::Acquire)), Ordering::AcqRel);
        rename(&mut answer, names);
        shared.learn(connection, &mut answer);
        if write_frame(client, &answer).is_err() {
            shared.keeps(answer);
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// A broker that the answer names by its address is named otherwise.
fn rename(answer: &mut [u8], Names { port, host, by }: Names) {
    let address = |host: &str, port: u16| [host.as_bytes(), &u32::from(port).to_be_bytes()].concat();
    let (named, renamed) = (address(HOST, port), address(host, by));
    let is_named = |at: &usize| answer[*at..].starts_with(&named);
    let places: Vec<usize> = (0..answer.len()).filter(is_named).collect();
    for at in places {
        answer[at..at + renamed.len()].copy_from_slice(&renamed);
    }
}

/// A connection is known by its client's port.
fn port(client: &TcpStream) -> u16 {
    client.peer_addr().map_or(0, |address| address.port())
}

/// The same answer to another request.
fn numbered(answer: &[u8], number: [u8; 4]) -> Vec<u8> {
    [&number[..], &answer[4..]].concat()
}

fn kind(request: &[u8]) -> i16 {
    i16::from_be_bytes([request[0], request[1]])
}

/// Whether a lane's producer sent it, by the name that it calls itself.
fn is_of_a_producer(request: &[u8]) -> bool {
    let length = usize::from(u16::from_be_bytes([request[8], request[9]]));
    request.get(10..10 + length).is_some_and(|name| name.ends_with(b"-producer"))
}

fn read_frame(mut from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("32 bits fit")];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(mut to: &TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).expect("a frame is short");
    to.write_all(&[&length.to_be_bytes()[..], frame].concat())
}
