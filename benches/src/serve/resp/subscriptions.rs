//! The channels that a connection listens to. Nothing is ever published; a subscription only makes the
//! session not neutral.

use std::collections::HashSet;

use bytes::Bytes;

use super::reply::{self, Version};

/// Channels of each kind that one connection may listen to.
const MAX_CHANNELS: usize = 1024;

/// The kind of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Channels,
    Patterns,
    ShardChannels,
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    lists: [HashSet<Bytes>; 3],
}

impl Subscriptions {
    /// How many channels, patterns and shard channels.
    pub(super) fn counts(&self) -> [usize; 3] {
        self.lists.each_ref().map(HashSet::len)
    }

    /// Adds names, and confirms each.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        names: &[Bytes],
        version: Version,
        output: &mut Vec<u8>,
    ) {
        let word = ["subscribe", "psubscribe", "ssubscribe"][kind as usize];
        for name in names {
            let list = &mut self.lists[kind as usize];
            if list.len() < MAX_CHANNELS {
                list.insert(name.clone());
            }
            self.confirm(word, Some(name), kind, version, output);
        }
    }

    /// Removes names, or all of the kind without names, and confirms each.
    pub(super) fn remove(
        &mut self,
        kind: Kind,
        names: &[Bytes],
        version: Version,
        output: &mut Vec<u8>,
    ) {
        let word = ["unsubscribe", "punsubscribe", "sunsubscribe"][kind as usize];
        let leaving: Vec<Bytes> = if names.is_empty() {
            self.lists[kind as usize].iter().cloned().collect()
        } else {
            names.to_vec()
        };
        if leaving.is_empty() {
            self.confirm(word, None, kind, version, output);
        }
        for name in leaving {
            self.lists[kind as usize].remove(&name);
            self.confirm(word, Some(&name), kind, version, output);
        }
    }

    fn confirm(
        &self,
        word: &str,
        name: Option<&Bytes>,
        kind: Kind,
        version: Version,
        output: &mut Vec<u8>,
    ) {
        // Channels and patterns are counted together, shard channels apart, as redis does.
        let [channels, patterns, shards] = self.counts();
        let count = if kind == Kind::ShardChannels { shards } else { channels + patterns };
        reply::push(output, version, 3);
        reply::bulk(output, word.as_bytes());
        match name {
            Some(name) => reply::bulk(output, name),
            None => reply::null(output, version),
        }
        reply::integer(output, count as i64);
    }
}
