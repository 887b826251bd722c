//! The framed echo server, in the three variants of the plain TCP template.
//!
//! `one-task`: read, answer, repeat; replies in request order. `reader-handoff`: a reader hands each
//! request to one of a bounded number of processors, each writes its own reply under a lock.
//! `separate-writer`: processors put replies into a bounded queue, one task writes them and flushes
//! once for all that are there. Each step costs more than the one before; the models exist so that
//! the cost can be measured.

use std::io;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::io::WriteHalf;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::codec::{Framed, FramedRead, FramedWrite};

use super::faulty::Faulty;
use super::listener::Listener;
use super::model::FramedModel;
use super::oracle::{OpenSocket, Oracle};
use crate::framed::codec::{Frame, FrameCodec};

/// Requests of one connection that are processed at a time; the reader stops reading beyond it.
const PROCESSORS: usize = 32;
/// Replies that may wait for the writer; a full queue slows the processors.
const QUEUE: usize = 64;

/// Accepts connections forever and serves each as `model` says.
pub(super) async fn serve(mut listener: Listener, oracle: Arc<Oracle>, model: FramedModel) {
    loop {
        let stream = listener.accept().await;
        let open = oracle.accepted().with(stream.connection());
        tokio::spawn(async move {
            // An error means that the client is gone or broke the framing: the connection is over.
            drop(match model {
                FramedModel::OneTask => one_task(stream, &open).await,
                FramedModel::ReaderHandoff => reader_handoff(stream, open).await,
                FramedModel::SeparateWriter => separate_writer(stream, open).await,
            });
        });
    }
}

/// Counts a request, and returns whether the connection is to be closed after its reply. An empty frame
/// is the exchange that a dial waits for: a greeting, not a request.
fn answered(open: &OpenSocket, frame: &Frame) -> bool {
    if frame.body.is_empty() { open.announced() } else { open.executed(&frame.body, false) }
}

async fn one_task(stream: Faulty, open: &OpenSocket) -> io::Result<()> {
    let mut framed = Framed::new(stream, FrameCodec::new());
    while let Some(frame) = framed.next().await {
        let frame = frame?;
        let close = answered(open, &frame);
        framed.send(frame).await?;
        if close {
            // The close waits until delayed replies have left.
            return framed.close().await;
        }
    }
    Ok(())
}

type Writer = FramedWrite<WriteHalf<Faulty>, FrameCodec>;

async fn reader_handoff(stream: Faulty, open: OpenSocket) -> io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let mut read = FramedRead::new(read, FrameCodec::new());
    // The last processor to end closes the socket, and only then the socket stops counting as open.
    let shared = Arc::new((Mutex::new(Writer::new(write, FrameCodec::new())), open));
    let processors = Arc::new(Semaphore::new(PROCESSORS));
    while let Some(frame) = read.next().await {
        let frame = frame?;
        let permit = permit(&processors).await;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let (writer, open) = &*shared;
            let close = answered(open, &frame);
            let mut writer = writer.lock().await;
            // A client that is gone is noticed by the reader.
            drop(writer.send(frame).await);
            if close {
                drop(writer.close().await);
            }
            drop(permit);
        });
    }
    Ok(())
}

async fn separate_writer(stream: Faulty, open: OpenSocket) -> io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let mut read = FramedRead::new(read, FrameCodec::new());
    let open = Arc::new(open);
    let (replies, queue) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(write_replies(queue, Writer::new(write, FrameCodec::new())));
    let processors = Arc::new(Semaphore::new(PROCESSORS));
    let reading = async {
        while let Some(frame) = read.next().await {
            let frame = frame?;
            let permit = permit(&processors).await;
            let (replies, open) = (replies.clone(), Arc::clone(&open));
            tokio::spawn(async move {
                let close = answered(&open, &frame);
                // The queue is closed when the writer failed; its failure ends the reader.
                drop(replies.send((frame, close)).await);
                drop(permit);
            });
        }
        io::Result::Ok(())
    };
    let result = tokio::select! {
        result = reading => result,
        () = replies.closed() => Ok(()),
    };
    // The processors drain, the queue closes, the writer flushes, the socket closes.
    drop(replies);
    drop(writer.await);
    drop(read);
    drop(open);
    result
}

/// Writes what is in the queue, and flushes once for everything that was there.
async fn write_replies(mut queue: mpsc::Receiver<(Frame, bool)>, mut writer: Writer) {
    while let Some((frame, mut close)) = queue.recv().await {
        let mut result = writer.feed(frame).await;
        while !close
            && result.is_ok()
            && let Ok((frame, last)) = queue.try_recv()
        {
            close = last;
            result = writer.feed(frame).await;
        }
        if result.is_err() || writer.flush().await.is_err() {
            return;
        }
        if close {
            // The close waits until delayed replies have left. If the client is gone, it needs none.
            drop(writer.close().await);
            return;
        }
    }
}

async fn permit(processors: &Arc<Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    Arc::clone(processors).acquire_owned().await.expect("the semaphore is never closed")
}
