//! The data: a small bounded map that remembers how often each key changed, for `WATCH`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

/// Databases of the server, as a stock redis has.
pub(super) const DATABASES: u32 = 16;
/// Keys that are kept; another one is refused.
const MAX_KEYS: usize = 100_000;

/// A key in one of the databases.
pub(super) type Place = (u32, Bytes);

/// The data that all sessions share.
#[derive(Debug, Default)]
pub(super) struct Store {
    values: Mutex<HashMap<Place, (Bytes, u64)>>,
}

impl Store {
    pub(super) fn get(&self, place: &Place) -> Option<Bytes> {
        self.lock().get(place).map(|(value, _)| value.clone())
    }

    /// How often the key was set; 0 when it never was.
    pub(super) fn version(&self, place: &Place) -> u64 {
        self.lock().get(place).map_or(0, |(_, version)| *version)
    }

    /// Sets the key; false when there is no room for another one.
    pub(super) fn set(&self, place: Place, value: Bytes) -> bool {
        // The arguments are slices of a whole command: keep only what is stored.
        let (value, key) = (Bytes::copy_from_slice(&value), Bytes::copy_from_slice(&place.1));
        let mut values = self.lock();
        if let Some(entry) = values.get_mut(&place) {
            *entry = (value, entry.1 + 1);
        } else if values.len() < MAX_KEYS {
            values.insert((place.0, key), (value, 1));
        } else {
            return false;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, (Bytes, u64)>> {
        self.values.lock().expect("nothing panics under the lock")
    }
}
