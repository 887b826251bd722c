//! How a connection is lent: moved out (exclusive) or handed out as a handle (shared).
//!
//! This is the smallest difference between an HTTP/1 pool and an HTTP/2 pool. An exclusive
//! connection leaves the idle list when it is lent; a shared one stays there until as many
//! leases are out as it has capacity for. Everything else is the same code.

use std::convert::Infallible;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The value that the pool keeps for a connection while it is not lent, and the value in a lease. The
/// pool's [`State`](crate::state::State) knows nothing else of how connections are lent. A program
/// that drives the state itself may implement this trait for its own values. Each lease moves a value
/// out and in, so values should be small, like a pointer.
pub trait Lend: Sized + Send + 'static {
    /// Whether several leases of one connection can be out at a time.
    const SHARED: bool;

    /// Another handle of the same connection; `None` if a connection has one lease at a time. With
    /// [`SHARED`](Lend::SHARED) it has to be `Some`, or the state panics.
    fn another(&self) -> Option<Self>;

    /// Takes the value for a lease out of the slot: the connection itself when exclusive (the slot
    /// is empty afterwards), another handle when shared (the slot keeps its own).
    #[inline]
    fn lend(slot: &mut Option<Self>) -> Option<Self> {
        if Self::SHARED { slot.as_ref().and_then(Self::another) } else { slot.take() }
    }
}

/// How a manager's connections are lent.
///
/// Implemented by [`Exclusive`] and [`Shared`], and by nothing else; a [`Manager`](crate::Manager) names
/// one of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is lent",
    label = "not `Exclusive<_>` or `Shared<_>`",
    note = "use `Exclusive<{Self}>` for one borrower at a time, `Shared<{Self}>` for many"
)]
pub trait Lending: Lend + sealed::Sealed {
    /// The connection inside.
    type Connection: Send + 'static;

    /// The type of the handles of a shared connection: `Self`. An exclusive connection is moved out
    /// itself and has no handles ([`Infallible`]).
    #[doc(hidden)]
    type Handle: Lend;

    /// Wraps a connection that was just dialed.
    fn new(connection: Self::Connection) -> Self;

    /// The connection, by reference.
    fn get(&self) -> &Self::Connection;

    /// A handle, if it is shared.
    #[doc(hidden)]
    fn into_handle(self) -> Result<Self::Handle, Self>;

    #[doc(hidden)]
    fn from_handle(handle: Self::Handle) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl<C> Sealed for super::Exclusive<C> {}
    impl<C> Sealed for super::Shared<C> {}
}

/// An exclusive connection has no handles, so there is never a value of this type.
impl Lend for Infallible {
    const SHARED: bool = false;

    fn another(&self) -> Option<Self> {
        match *self {}
    }
}

/// One lease at a time: the lease owns the connection, and gives `&mut` access to it.
pub struct Exclusive<C>(C);

impl<C> Exclusive<C> {
    /// Gives up the wrapper.
    pub fn into_inner(self) -> C {
        self.0
    }
}

impl<C: Send + 'static> Lend for Exclusive<C> {
    const SHARED: bool = false;

    #[inline]
    fn another(&self) -> Option<Self> {
        None
    }
}

impl<C: Send + 'static> Lending for Exclusive<C> {
    type Connection = C;
    type Handle = Infallible;

    fn new(connection: C) -> Self {
        Self(connection)
    }

    fn get(&self) -> &C {
        &self.0
    }

    fn into_handle(self) -> Result<Infallible, Self> {
        Err(self)
    }

    fn from_handle(handle: Infallible) -> Self {
        match handle {}
    }
}

impl<C> Deref for Exclusive<C> {
    type Target = C;
    #[inline]
    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> DerefMut for Exclusive<C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<C: fmt::Debug> fmt::Debug for Exclusive<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Many leases at a time: each lease holds an [`Arc`] of the connection, and gives `&` access.
///
/// Such a connection has its own task, which hands each answer to the lease that asked, and tells the
/// [`Notifier`](crate::Notifier) about changes that the peer announces. That task should also write:
/// a borrower can be cancelled at any await, and half a request spoils the connection for all borrowers.
///
/// ```
/// use std::{collections::VecDeque, io};
/// use pool_common::{Manager, Notifier, Pool, Shared, connect::TcpConnector};
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
/// use tokio::sync::{mpsc, oneshot};
///
/// type Request = (String, oneshot::Sender<String>);
/// struct Lines(mpsc::Sender<Request>);
///
/// impl Lines {
///     async fn ask(&self, line: &str) -> io::Result<String> {
///         let (tell, answer) = oneshot::channel();
///         let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
///         self.0.send((format!("{line}\n"), tell)).await.map_err(|_| gone())?;
///         answer.await.map_err(|_| gone())
///     }
/// }
///
/// async fn serve(
///     stream: tokio::net::TcpStream,
///     mut requests: mpsc::Receiver<Request>,
///     notifier: &Notifier,
/// ) -> io::Result<()> {
///     let (read, mut write) = stream.into_split();
///     let (mut answers, mut asked) = (BufReader::new(read).lines(), VecDeque::new());
///     loop {
///         tokio::select! {
///             request = requests.recv() => {
///                 let Some((line, tell)) = request else { return Ok(()) }; // the pool dropped it
///                 asked.push_back(tell);
///                 write.write_all(line.as_bytes()).await?;
///             }
///             line = answers.next_line() => {
///                 let Some(line) = line? else { return Ok(()) };
///                 if line == "GOAWAY" {
///                     notifier.retire(); // its leases go on
///                 } else if let Some(number) = line.strip_prefix("CAPACITY ") {
///                     notifier.set_capacity(number.parse().unwrap_or(1));
///                 } else if let Some(tell) = asked.pop_front() {
///                     let _ = tell.send(line); // the caller may be gone
///                 }
///             }
///         }
///     }
/// }
///
/// struct Pipelined;
/// impl Manager for Pipelined {
///     type Key = (String, u16);
///     type Lending = Shared<Lines>;
///     type Error = io::Error;
///     async fn connect(&self, key: &Self::Key, notifier: Notifier) -> io::Result<Lines> {
///         let stream = TcpConnector::default().connect(&key.0, key.1).await?;
///         let (send, requests) = mpsc::channel(16);
///         tokio::spawn(async move {
///             let _ = serve(stream, requests, &notifier).await;
///             notifier.broken(); // for whatever reason
///         });
///         Ok(Lines(send))
///     }
///     fn capacity(&self, _: &Lines) -> u32 {
///         16 // or the number that the peer gave in the handshake
///     }
///     fn is_broken(&self, lines: &mut Shared<Lines>) -> bool {
///         lines.0.is_closed()
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let key = ("127.0.0.1".to_owned(), server.local_addr()?.port());
/// # tokio::spawn(async move {
/// #     loop {
/// #         let (read, mut write) = server.accept().await.unwrap().0.into_split();
/// #         tokio::spawn(async move {
/// #             let mut lines = BufReader::new(read).lines();
/// #             while let Ok(Some(line)) = lines.next_line().await {
/// #                 let _ = write.write_all(format!("{line}\n").as_bytes()).await;
/// #             }
/// #         });
/// #     }
/// # });
/// # let pool = Pool::builder(Pipelined).build()?;
/// # let mut leases = Vec::new();
/// # for _ in 0..16 { leases.push(pool.acquire(&key).await?) }
/// # assert_eq!((pool.status().open, pool.status().leases), (1, 16));
/// # for n in ["1", "2"] { assert_eq!(leases[7].ask(n).await?, n) }
/// # leases.push(pool.acquire(&key).await?);
/// # assert_eq!(pool.status().open, 2);
/// # // The server of this test echoes each line.
/// # tokio::select! { _ = leases[0].ask("GOAWAY") => {}, () = async { while pool.status().draining == 0 { tokio::task::yield_now().await } } => {} }
/// # drop(leases);
/// # pool.close().await;
/// # Ok(()) }
/// ```
pub struct Shared<C>(Arc<C>);

impl<C> Shared<C> {
    /// The handle itself, for a task that outlives the lease. The pool does not count it.
    pub fn into_arc(self) -> Arc<C> {
        self.0
    }
}

impl<C: Send + Sync + 'static> Lend for Shared<C> {
    const SHARED: bool = true;

    #[inline]
    fn another(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl<C: Send + Sync + 'static> Lending for Shared<C> {
    type Connection = C;
    type Handle = Self;

    fn new(connection: C) -> Self {
        Self(Arc::new(connection))
    }

    fn get(&self) -> &C {
        &self.0
    }

    #[inline]
    fn into_handle(self) -> Result<Self, Self> {
        Ok(self)
    }

    #[inline]
    fn from_handle(handle: Self) -> Self {
        handle
    }
}

/// Another handle of the same connection, which the pool does not count: keep the lease for as
/// long as the clone is used.
impl<C> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> Deref for Shared<C> {
    type Target = C;
    #[inline]
    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: fmt::Debug> fmt::Debug for Shared<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
