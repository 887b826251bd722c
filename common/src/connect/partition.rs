//! What keeps the connections of callers apart.

use std::fmt;
use std::sync::Arc;

/// Keeps connections apart that otherwise lead to the same place: a part of the key that the user
/// chooses. Callers share connections only if their partitions are equal. For tenants, users, or
/// requests that must not follow each other on one connection.
///
/// It is a number, or bytes; a number never equals bytes. The default is a partition of its own.
/// In HTTP it is an extension of the request, in RESP a field of the config. tower-http's `FollowRedirect` drops extensions
/// at the first redirect: set this one in a layer below it, or the next hop has the default partition. Limits such as
/// `max_open_per_key` hold for each partition.
///
/// ```
/// use pool_common::connect::Partition;
///
/// let mut request = http::Request::get("http://a.example/").body(())?;
/// request.extensions_mut().insert(Partition::from(7));
/// assert_ne!(Partition::from("tenant"), Partition::default());
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Partition(Part);

#[derive(Clone, Default, PartialEq, Eq, Hash)]
enum Part {
    #[default]
    Common,
    Number(u64),
    Bytes(Arc<[u8]>),
}

impl Partition {
    /// Whether it is the default one.
    pub fn is_default(&self) -> bool {
        matches!(self.0, Part::Common)
    }
}

impl From<u64> for Partition {
    fn from(number: u64) -> Self {
        Self(Part::Number(number))
    }
}

impl From<&[u8]> for Partition {
    fn from(bytes: &[u8]) -> Self {
        Self(Part::Bytes(bytes.into()))
    }
}

impl From<&str> for Partition {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

/// A number is shown. Bytes are not, since they may be what a tenant logs in with.
impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Part::Common => f.write_str("Partition(default)"),
            Part::Number(number) => write!(f, "Partition({number})"),
            Part::Bytes(_) => f.write_str("Partition(***)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_bytes_and_none_differ_and_bytes_are_not_shown() {
        let bytes = 7_u64.to_ne_bytes();
        let all = [Partition::default(), 7.into(), 8.into(), bytes[..].into(), "tenant".into()];
        assert_eq!(HashSet::from(all.clone()).len(), all.len());
        assert_eq!(Partition::from("tenant"), Partition::from(&b"tenant"[..]));
        assert_eq!(format!("{:?}", all[1]), "Partition(7)");
        assert!(!format!("{:?}", all[4]).contains("tenant"));
    }
}
