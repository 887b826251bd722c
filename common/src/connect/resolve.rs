//! From a name to its addresses.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::lookup_host;

/// The future of a look-up, see [`Resolve::resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Finds the addresses of a name. The connector asks it only for names, not for addresses that are
/// written out.
///
/// ```
/// use pool_common::connect::{Resolve, Resolver, Resolving, TcpConnector};
///
/// struct Fixed;
/// impl Resolve for Fixed {
///     fn resolve<'a>(&'a self, _name: &'a str) -> Resolving<'a> {
///         Box::pin(async { Ok(vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()]) })
///     }
/// }
/// let connector = TcpConnector { resolver: Resolver::new(Fixed), ..TcpConnector::default() };
/// ```
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `name`, the best first. The connector tries both families in turn, beginning
    /// with that of the first address. It bounds the look-up by the time of the dial.
    ///
    /// # Errors
    /// When the name cannot be looked up. For a name without an address, an empty list will do.
    ///
    /// # Cancel safety
    /// May be dropped at any await.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// The resolver of a [`TcpConnector`](super::TcpConnector): that of the system by default, or any
/// [`Resolve`]. Cheap to clone. Two resolvers are equal if they are clones of each other, or both the
/// system's.
#[derive(Clone, Default)]
pub struct Resolver(Option<Arc<dyn Resolve>>);

impl Resolver {
    /// Asks `resolve` for addresses.
    pub fn new(resolve: impl Resolve) -> Self {
        Self(Some(Arc::new(resolve)))
    }

    /// The resolver of the system, `getaddrinfo`. It blocks, so it runs in a thread for blocking work and
    /// not in one of the runtime's workers.
    pub fn system() -> Self {
        Self(None)
    }

    /// The addresses of `name`.
    pub(super) async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match &self.0 {
            Some(resolve) => resolve.resolve(name).await,
            None => Ok(lookup_host((name, 0)).await?.map(|address| address.ip()).collect()),
        }
    }
}

impl PartialEq for Resolver {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for Resolver {}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Resolver(own)" } else { "Resolver(system)" })
    }
}
