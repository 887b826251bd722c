//! Queues whose entries may outlive what they are about. Skipping those when their turn comes is
//! cheaper than searching for them; now and then they are cleared away in bulk.

use super::KeyId;
use super::entries::KeyEntry;
use super::steps::{SlotMap, VecDeque};

/// Whether so many entries, about things of which so many are left, are worth a walk over all of
/// them. It comes seldom enough to cost each entry a few steps.
pub(super) fn is_overgrown(entries: usize, left: usize) -> bool {
    entries > 2 * left + 64
}

/// Puts a key in line, behind others of which some may have been forgotten.
pub(super) fn queue_up<K, E>(
    queue: &mut VecDeque<KeyId>,
    keys: &SlotMap<KeyId, KeyEntry<K, E>>,
    key: KeyId,
) {
    if is_overgrown(queue.len(), keys.len()) {
        queue.retain(|key| keys.contains(*key));
    }
    queue.push_back(key);
}
