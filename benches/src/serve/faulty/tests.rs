//! A connection under faults, on real sockets and in virtual time.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::fault::{Fault, Who};

/// Longer than anything a test waits for; virtual time makes it short.
const LONG: Duration = Duration::from_secs(60);

/// A client, and the server's side of its connection.
async fn pair(faults: &Arc<Faults>) -> (TcpStream, Faulty) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, Faulty::new(server, Arc::clone(faults)))
}

/// A server that echoes until the client leaves; how its last read ended.
async fn echo(mut stream: Faulty) -> io::Result<()> {
    let mut bytes = [0; 64];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..count]).await?;
    }
}

async fn exchange(client: &mut TcpStream) -> Duration {
    let began = Instant::now();
    client.write_all(b"x").await.unwrap();
    assert_eq!(timeout(LONG, client.read_u8()).await.unwrap().unwrap(), b'x');
    began.elapsed()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn replies_are_late_together_and_on_time_once_it_ends() {
    let faults = Faults::new();
    let (mut client, server) = pair(&faults).await;
    let server = tokio::spawn(echo(server));
    let fault = faults.inject(Fault::SlowReplies { ms: 5000 });
    let late = exchange(&mut client).await;
    assert!(late >= ms(5000) && late < ms(6000), "{late:?}");
    // A delayed reply is sent when the fault ends, not at its due time.
    client.write_all(b"y").await.unwrap();
    assert!(timeout(ms(1000), client.read_u8()).await.is_err());
    let began = Instant::now();
    faults.lift(fault);
    assert_eq!(client.read_u8().await.unwrap(), b'y');
    assert!(began.elapsed() < ms(1000), "{:?}", began.elapsed());
    drop(client);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_only_writes_is_late_too_and_a_close_waits_for_it() {
    let faults = Faults::new();
    faults.inject(Fault::SlowReplies { ms: 5000 });
    let (mut client, server) = pair(&faults).await;
    let (mut reads, mut writes) = tokio::io::split(server);
    let reader = tokio::spawn(async move { reads.read(&mut [0; 8]).await.unwrap() });
    tokio::task::yield_now().await;
    let began = Instant::now();
    tokio::spawn(async move { writes.write_all(b"one").await.unwrap() }).await.unwrap();
    let mut three = [0; 3];
    timeout(LONG, client.read_exact(&mut three)).await.unwrap().unwrap();
    assert!(began.elapsed() >= ms(5000) && began.elapsed() < ms(6000), "{:?}", began.elapsed());
    drop(client);
    assert_eq!(reader.await.unwrap(), 0);

    let (mut client, mut server) = pair(&faults).await;
    server.write_all(b"bye").await.unwrap();
    let closing = tokio::spawn(async move { server.shutdown().await });
    timeout(LONG, client.read_exact(&mut three)).await.unwrap().unwrap();
    assert_eq!(&three, b"bye");
    assert_eq!(client.read(&mut three).await.unwrap(), 0);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_dial_delays_only_the_first_bytes() {
    let faults = Faults::new();
    let (mut old, server) = pair(&faults).await;
    tokio::spawn(echo(server));
    faults.inject(Fault::SlowDial { ms: 5000 });
    let (mut new, server) = pair(&faults).await;
    tokio::spawn(echo(server));
    assert!(exchange(&mut old).await < ms(1000));
    assert!(exchange(&mut new).await >= ms(5000));
    assert!(exchange(&mut new).await < ms(1000));
}

#[tokio::test(start_paused = true)]
async fn a_silence_keeps_bytes_and_notices_a_client_that_leaves() {
    let faults = Faults::new();
    let (mut client, server) = pair(&faults).await;
    let server = tokio::spawn(echo(server));
    exchange(&mut client).await;
    let silence = faults.inject(Fault::Silence { who: Who::Old });
    client.write_all(b"z").await.unwrap();
    assert!(timeout(ms(9000), client.read_u8()).await.is_err());
    faults.lift(silence);
    assert_eq!(client.read_u8().await.unwrap(), b'z');
    faults.inject(Fault::Silence { who: Who::All });
    client.write_all(b"z").await.unwrap();
    drop(client);
    timeout(LONG, server).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_close_in_a_silence_ends_when_the_client_leaves() {
    let faults = Faults::new();
    let (client, mut server) = pair(&faults).await;
    faults.inject(Fault::Silence { who: Who::Old });
    server.write_all(b"never read").await.unwrap();
    let closing = tokio::spawn(async move { server.shutdown().await });
    tokio::time::sleep(ms(100)).await;
    assert!(!closing.is_finished());
    drop(client);
    timeout(LONG, closing).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silence_takes_any_number_of_bytes_and_resets_when_it_lost_some() {
    let faults = Faults::new();
    let (mut client, server) = pair(&faults).await;
    let server = tokio::spawn(echo(server));
    let silence = faults.inject(Fault::Silence { who: Who::All });
    timeout(LONG, client.write_all(&vec![0; 3 * MOST_KEPT])).await.unwrap().unwrap();
    tokio::time::sleep(ms(100)).await;
    faults.lift(silence);
    assert!(timeout(LONG, client.read_u8()).await.unwrap().is_err());
    assert!(server.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn cuts_are_orderly_or_not() {
    for (how, ends) in [(Cut::Fin, Some(0)), (Cut::Rst, None)] {
        let faults = Faults::new();
        let (mut client, server) = pair(&faults).await;
        let server = tokio::spawn(echo(server));
        exchange(&mut client).await;
        faults.inject(Fault::Cut { how });
        assert_eq!(client.read(&mut [0; 1]).await.ok(), ends, "{how:?}");
        assert!(server.await.unwrap().is_err(), "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_orderly_cut_is_no_reset_for_a_request_that_was_not_read() {
    let faults = Faults::new();
    let (mut client, mut server) = pair(&faults).await;
    client.write_all(b"a request").await.unwrap();
    faults.inject(Fault::Cut { how: Cut::Fin });
    assert!(server.read(&mut [0; 64]).await.is_err());
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn idling_is_counted_from_the_last_byte_and_from_the_fault() {
    let faults = Faults::new();
    let (mut client, server) = pair(&faults).await;
    let server = tokio::spawn(echo(server));
    tokio::time::sleep(ms(9000)).await;
    faults.inject(Fault::CutIdle { after_ms: 5000, how: Cut::Fin });
    for _ in 0..4 {
        tokio::time::sleep(ms(3000)).await;
        exchange(&mut client).await;
    }
    let began = Instant::now();
    assert_eq!(timeout(LONG, client.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    assert!(began.elapsed() >= ms(4000), "{:?}", began.elapsed());
    assert!(server.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_writes_into_a_silence_is_held_back() {
    let faults = Faults::new();
    let (mut client, mut server) = pair(&faults).await;
    let silence = faults.inject(Fault::Silence { who: Who::All });
    let total = 4 * MOST_KEPT;
    let writing = tokio::spawn(async move {
        for _ in 0..total / 1024 {
            server.write_all(&[7; 1024]).await.unwrap();
        }
        server.shutdown().await.unwrap();
    });
    tokio::time::sleep(ms(100)).await;
    assert!(!writing.is_finished(), "what is kept has a limit");
    faults.lift(silence);
    let mut all = Vec::new();
    timeout(LONG, client.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all.len(), total);
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_fault_that_is_over() {
    let faults = Faults::new();
    let (mut client, mut server) = pair(&faults).await;
    assert!(server.calm);
    faults.inject(Fault::SlowReplies { ms: 5000 });
    server.write_all(b"x").await.unwrap();
    assert!(!server.calm);
    faults.start();
    client.write_all(b"y").await.unwrap();
    server.read_u8().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    assert!(server.calm && server.late_bytes == 0);
}
