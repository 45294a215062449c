//! A door between a client and a broker: a TCP proxy that can be shut, held or made slow while connections go through it.
//!
//! Cut: every connection is dropped, and new ones are dropped at once. Held: connections stay, and nothing passes, as
//! behind a firewall that forgets. Slow: some kilobytes a second pass. Outputs held: nothing of a connection that has carried
//! a Produce request passes, and everything else does. What passes passes unchanged.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::holds_within;

/// Bytes that pass at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long a chunk takes through a slow door, in each direction: 320 kB/s.
const CHUNK_TIME: Duration = Duration::from_millis(50);
/// The pause between two looks at the state of the door.
const LOOK: Duration = Duration::from_millis(10);

/// What a door does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// It passes.
    Open,
    /// Connections are dropped.
    Cut,
    /// Connections stay, nothing passes.
    Held,
    /// It passes slowly.
    Slow,
    /// Connections of producers stay, and nothing passes by them; all others are open.
    OutputsHeld,
}

/// What goes in one direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bears {
    Requests,
    Answers,
}

#[derive(Default)]
struct State {
    way: AtomicU8,
    ended: AtomicBool,
    /// Both ends of every connection, to be dropped.
    connections: Mutex<Vec<[TcpStream; 2]>>,
    n_dropped: AtomicU64,
    n_held: AtomicU64,
}

/// A proxy from a port of its own to one address.
pub struct Door {
    state: Arc<State>,
}

impl Door {
    /// Opens a door at `port` to `target`.
    pub fn new(port: u16, target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port was free");
        listener.set_nonblocking(true).expect("a listener can be asked without waiting");
        let state = Arc::new(State::default());
        let (shared, target) = (Arc::clone(&state), target.to_owned());
        start("door", move || accept(&listener, &target, &shared));
        Self { state }
    }

    /// Changes what the door does, from now on.
    pub fn set(&self, way: Way) {
        if way == Way::Cut {
            self.state.drop_all(); // what is held now never passes
        }
        self.state.way.store(way as u8, Ordering::SeqCst);
        if way == Way::Cut {
            self.state.drop_all();
        }
    }

    /// Connections that were dropped by a cut so far.
    pub fn n_dropped(&self) -> u64 {
        self.state.n_dropped.load(Ordering::Relaxed)
    }

    /// Chunks that had to wait at a door that was held.
    pub fn n_held(&self) -> u64 {
        self.state.n_held.load(Ordering::Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.state.drop_all();
    }
}

impl State {
    fn is(&self, way: Way) -> bool {
        self.way.load(Ordering::SeqCst) == way as u8
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Whether the door is gone before so much time has passed.
    fn ends_within(&self, time: Duration) -> bool {
        holds_within(time, || self.has_ended())
    }

    fn drop_all(&self) {
        for ends in self.connections.lock().expect("no panic under this lock").drain(..) {
            self.n_dropped.fetch_add(1, Ordering::Relaxed);
            ends.iter().for_each(close);
        }
    }
}

fn accept(listener: &TcpListener, target: &str, state: &Arc<State>) {
    while !state.has_ended() {
        match listener.accept() {
            Ok((client, _)) if state.is(Way::Cut) => drop(client),
            Ok((client, _)) => {
                // A broker that is away refuses, and so does the door.
                if let Ok(server) = TcpStream::connect(target) {
                    connect(client, server, state);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                state.ends_within(LOOK);
            }
            Err(error) => panic!("a door can't accept: {error}"),
        }
    }
}

fn connect(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    client.set_nonblocking(false).expect("a connection can wait");
    for end in [&client, &server] {
        end.set_nodelay(true).expect("a connection can be quick");
    }
    let again = |stream: &TcpStream| stream.try_clone().expect("a connection can be shared");
    let ends = [again(&client), again(&server)];
    let mut connections = state.connections.lock().expect("no panic under this lock");
    connections.retain(|[client, _]| client.take_error().is_ok() && client.peer_addr().is_ok());
    connections.push(ends);
    drop(connections);
    if state.is(Way::Cut) || state.has_ended() {
        state.drop_all(); // the door was shut between the look and the entry in the list
    }
    let produces = Arc::new(AtomicBool::new(false));
    let ways = [(again(&client), again(&server), Bears::Requests), (server, client, Bears::Answers)];
    for (from, to, bears) in ways {
        let (state, produces) = (Arc::clone(state), Arc::clone(&produces));
        start("door-copy", move || copy(from, to, &state, (bears, &produces)));
    }
}

/// Passes on what comes, and closes both when one has ended.
fn copy(mut from: TcpStream, mut to: TcpStream, state: &State, (bears, produces): (Bears, &AtomicBool)) {
    let is_held = || state.is(Way::Held) || (state.is(Way::OutputsHeld) && produces.load(Ordering::Relaxed));
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(n) = from.read(&mut chunk) {
        if n == 0 {
            break;
        }
        if bears == Bears::Requests && is_produce(&chunk[..n]) {
            produces.store(true, Ordering::Relaxed);
        }
        if is_held() {
            state.n_held.fetch_add(1, Ordering::Relaxed);
        }
        while is_held() && !state.ends_within(LOOK) {}
        if state.is(Way::Slow) {
            state.ends_within(CHUNK_TIME);
        }
        if to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    [from, to].iter().for_each(close);
}

/// Whether a Produce request begins here: a length, the number 0, and a version that there is.
fn is_produce(chunk: &[u8]) -> bool {
    matches!(chunk, [0, _, _, _, 0, 0, 0, 3..=13, ..])
}

fn close(stream: &TcpStream) {
    // It may be closed already, by the other end.
    let _ = stream.shutdown(Shutdown::Both);
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread starts");
}
