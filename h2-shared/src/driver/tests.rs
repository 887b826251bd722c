//! The driver over an in-memory pipe on a paused clock: keep-alive, stalls, closes.

use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::connection::Connection;
use crate::error::ConnectError;
use crate::observed::Listener;

const SECOND: Duration = Duration::from_secs(1);
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Capacity(u32),
    Retire,
    Broken { calm: bool },
}

/// Records what the driver reports to the pool.
struct Ear(UnboundedSender<Word>);

impl Ear {
    fn hear(&self, word: Word) {
        // The test may have ended already.
        let _ = self.0.send(word);
    }
}

impl Listener for Ear {
    fn capacity(&self, slots: u32) {
        self.hear(Word::Capacity(slots));
    }

    fn retire(&self) {
        self.hear(Word::Retire);
    }

    fn broken(&self, calm: bool) {
        self.hear(Word::Broken { calm });
    }

    fn may_doubt(&self) -> bool {
        true
    }
}

/// The other end of the pipe, in raw frames.
struct Peer(DuplexStream);

impl Peer {
    async fn write(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 0];
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame of this kind that is not an acknowledgement; its payload.
    async fn read(&mut self, wanted: u8) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u16::from_be_bytes([head[1], head[2]]).into()];
            self.0.read_exact(&mut payload).await.ok()?;
            if head[3] == wanted && (head[4] & ACK == 0 || wanted == DATA) {
                return Some(payload);
            }
        }
    }

    async fn settings(&mut self, limit: u32) {
        let mut payload = vec![0, 3];
        payload.extend(limit.to_be_bytes());
        self.write(SETTINGS, 0, &payload).await;
    }

    async fn go_away(&mut self, reason: Reason) {
        let mut payload = vec![0, 0, 0, 0];
        payload.extend(u32::from(reason).to_be_bytes());
        self.write(GOAWAY, 0, &payload).await;
    }
}

/// A connection whose peer allows 5 streams, through a pipe of this size.
async fn connected(config: Config, pipe: usize) -> (Connection, Peer, UnboundedReceiver<Word>) {
    let (ours, theirs) = duplex(pipe);
    let (ear, mut words) = unbounded_channel();
    let start = Connection::start(ours, Arc::new(config), 1, Ear(ear));
    let answer = async {
        let mut peer = Peer(theirs);
        let mut preface = [0; 24];
        peer.0.read_exact(&mut preface).await.unwrap();
        peer.settings(5).await;
        peer
    };
    let (connection, peer) = tokio::join!(start, answer);
    assert_eq!(words.recv().await.unwrap(), Word::Capacity(5));
    (connection.unwrap(), peer, words)
}

fn watched() -> Config {
    Config {
        keep_alive_interval: Some(10 * SECOND),
        keep_alive_timeout: 8 * SECOND,
        ..Config::default()
    }
}

/// Reads and drops everything, so that only the time passes.
fn swallow(mut peer: Peer) -> JoinHandle<()> {
    tokio::spawn(async move { while peer.read(DATA).await.is_some() {} })
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_then_suspect_then_given_up() {
    let (connection, mut peer, mut words) = connected(watched(), 4_096).await;
    let start = Instant::now();
    peer.read(PING).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 10);
    let _swallow = swallow(peer);

    sleep(2 * SECOND + SECOND / 2).await;
    assert_eq!(words.try_recv(), Ok(Word::Retire));
    assert!(connection.is_suspect());
    assert_eq!(connection.slots(), 0);

    sleep(6 * SECOND).await;
    assert_eq!(words.try_recv(), Ok(Word::Broken { calm: false }));
    assert!(matches!(connection.closed(), Some(Closed::KeepAlive)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_late_may_finish_its_streams_and_gets_no_new_ones() {
    let (connection, mut peer, mut words) = connected(watched(), 4_096).await;
    connection.observed().stream_opened();
    let ping = peer.read(PING).await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(words.try_recv(), Ok(Word::Retire));
    peer.write(PING, ACK, &ping).await;
    peer.read(PING).await.unwrap();
    assert!(!connection.is_suspect() && connection.closed().is_none());
    connection.observed().stream_ended();
    assert!(words.try_recv().is_err(), "retired for good");
    assert_eq!(connection.slots(), 0);
}

#[tokio::test(start_paused = true)]
async fn traffic_keeps_pings_away() {
    let (_connection, mut peer, _words) = connected(watched(), 4_096).await;
    let start = Instant::now();
    for _ in 0..5 {
        sleep(6 * SECOND).await;
        peer.write(PING, 0, b"12345678").await;
    }
    peer.read(PING).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_a_ping_and_its_answer() {
    let (connection, mut peer, _words) = connected(Config::default(), 4_096).await;
    for _ in 0..3 {
        let answer = async {
            let ping = peer.read(PING).await.unwrap();
            peer.write(PING, ACK, &ping).await;
        };
        let (checked, ()) = tokio::join!(connection.ping(), answer);
        checked.unwrap();
    }
    drop(peer);
    let error = connection.ping().await.unwrap_err();
    assert!(matches!(error, ConnectError::CheckFailed(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_given_up() {
    let (connection, _peer, mut words) = connected(Config::default(), 256).await;
    let start = Instant::now();
    let mut streams = Vec::new();
    for number in 0..20 {
        // Different values, or header compression makes them a byte each.
        let request = Request::get("http://a/").header("x", format!("{number:0100}"));
        let request = request.body(()).unwrap();
        streams.push(connection.send_request(request, true).unwrap());
    }
    let (response, _) = streams.remove(0);
    assert!(response.await.is_err());
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(matches!(connection.closed(), Some(Closed::WriteStalled)));
    assert_eq!(words.try_recv(), Ok(Word::Broken { calm: false }));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_is_closed_in_order() {
    let (connection, mut peer, mut words) = connected(Config::default(), 4_096).await;
    drop(connection);
    let farewell = peer.read(GOAWAY).await.unwrap();
    assert_eq!(farewell[4..8], [0; 4], "NO_ERROR");
    assert!(peer.read(DATA).await.is_none());
    assert_eq!(words.recv().await.unwrap(), Word::Broken { calm: false });
}

#[tokio::test(start_paused = true)]
async fn a_close_that_the_peer_does_not_read_is_bounded() {
    let (connection, _peer, _words) = connected(Config::default(), 256).await;
    let request = Request::get("http://a/").header("x", "y".repeat(1_000)).body(()).unwrap();
    let stream = connection.send_request(request, true).unwrap();
    advance(SECOND).await;
    drop(stream);
    let start = Instant::now();
    connection.close().await;
    assert!(start.elapsed() <= SECOND);
    assert!(matches!(connection.closed(), Some(Closed::Local)));
}

#[tokio::test(start_paused = true)]
async fn a_go_away_retires_at_once_and_a_demand_for_calm_is_told() {
    let (connection, mut peer, mut words) = connected(Config::default(), 4_096).await;
    let request = Request::get("http://a/").body(()).unwrap();
    let (response, _stream) = connection.send_request(request, true).unwrap();
    peer.go_away(Reason::ENHANCE_YOUR_CALM).await;
    assert!(response.await.is_err());
    let _swallow = swallow(peer);
    assert_eq!(words.recv().await.unwrap(), Word::Retire);
    connection.close().await;
    assert_eq!(words.recv().await.unwrap(), Word::Broken { calm: true });
    let refused = connection.send_request(Request::default(), true);
    assert!(refused.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_settings_is_no_connection() {
    let (ours, _theirs) = duplex(4_096);
    let (ear, mut words) = unbounded_channel();
    let start = Connection::start(ours, Arc::new(Config::default()), 1, Ear(ear));
    let error = start.await.unwrap_err();
    assert!(matches!(error, ConnectError::SettingsTimeout(_)), "{error}");
    sleep(2 * SECOND).await;
    assert_eq!(words.try_recv(), Ok(Word::Broken { calm: false }), "its task has ended");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_owes_a_proof_has_the_time_of_a_ping_to_give_it() {
    let config = || Config { keep_alive_timeout: 8 * SECOND, ..Config::default() };
    let (connection, mut peer, mut words) = connected(config(), 4_096).await;
    connection.demand_proof();
    let ping = peer.read(PING).await.unwrap();
    sleep(SECOND / 20).await;
    peer.write(PING, ACK, &ping).await;
    sleep(60 * SECOND).await;
    assert!(words.try_recv().is_err() && connection.closed().is_none());

    let start = Instant::now();
    connection.demand_proof();
    let ping = peer.read(PING).await.unwrap();
    assert_eq!(words.recv().await.unwrap(), Word::Retire);
    assert_eq!(start.elapsed().as_millis(), 100);
    sleep(7 * SECOND).await;
    peer.write(PING, ACK, &ping).await;
    sleep(60 * SECOND).await;
    assert!(words.try_recv().is_err() && connection.closed().is_none());

    let start = Instant::now();
    connection.demand_proof();
    peer.read(PING).await.unwrap();
    let _swallow = swallow(peer);
    assert_eq!(words.recv().await.unwrap(), Word::Broken { calm: false });
    assert_eq!(start.elapsed().as_secs(), 8);
    assert!(matches!(connection.closed(), Some(Closed::KeepAlive)));
}

#[tokio::test(start_paused = true)]
async fn a_doubted_connection_gets_no_new_streams_and_has_to_prove_itself() {
    let (connection, mut peer, mut words) = connected(Config::default(), 4_096).await;
    connection.doubt();
    assert_eq!(words.try_recv(), Ok(Word::Retire));
    assert_eq!(connection.slots(), 0);
    peer.read(PING).await.unwrap();
    let _swallow = swallow(peer);
    assert_eq!(words.recv().await.unwrap(), Word::Broken { calm: false });
    assert!(matches!(connection.closed(), Some(Closed::KeepAlive)));
}

/// A timeout shorter than a few round trips leaves no time for an answer to the PING.
#[tokio::test(start_paused = true)]
async fn a_silence_retires_at_once_only_if_the_peer_had_time_to_answer_the_ping() {
    for (asked, at_once) in [(None, false), (Some(12), false), (Some(99), false), (Some(100), true)]
    {
        let (connection, mut peer, mut words) = connected(Config::default(), 4_096).await;
        let asked = asked.map(|ago| Instant::now() - Duration::from_millis(ago));
        connection.note_silence(asked);
        assert_eq!(words.try_recv().is_ok(), at_once, "{asked:?}");
        let ping = peer.read(PING).await.unwrap();
        peer.write(PING, ACK, &ping).await;
        sleep(60 * SECOND).await;
        assert!(words.try_recv().is_err(), "{asked:?}");
        assert_eq!(connection.slots() == 0, at_once, "{asked:?}");
    }
}

/// A request that never reached the socket cannot have been processed, whatever its method.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_written_is_known_not_to_be_sent() {
    let (connection, peer, _words) = connected(Config::default(), 256).await;
    let mut streams = Vec::new();
    for number in 0..5 {
        let request = Request::get("http://a/").header("x", format!("{number:0100}"));
        streams.push(connection.send_request(request.body(()).unwrap(), true).unwrap());
    }
    sleep(SECOND).await;
    let sent: Vec<_> = streams.iter().map(|(r, _)| connection.has_sent(r.stream_id())).collect();
    assert!(sent[0] && !sent[4], "{sent:?}");
    drop(peer);
    for (response, _) in streams {
        assert!(response.await.is_err());
    }
}
