//! Messages that came while their receiver was waiting for a reply.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;

use crate::{error::ProtocolError, value::Value};

/// Messages that are not received yet, oldest first, bounded in number and in memory.
#[derive(Default)]
pub(crate) struct Pushes {
    queue: VecDeque<(Value, usize)>,
    bytes: usize,
}

impl Pushes {
    /// Keeps a copy of `push`, since the buffer with `push` in it may be far larger.
    pub(crate) fn keep(
        &mut self,
        push: Value,
        most: usize,
        most_bytes: usize,
    ) -> Result<(), ProtocolError> {
        if self.queue.len() >= most {
            return Err(ProtocolError::TooManyPushes(most));
        }
        let size = size(&push);
        if size > most_bytes.saturating_sub(self.bytes) {
            return Err(ProtocolError::TooManyPushBytes(most_bytes));
        }
        self.bytes += size;
        self.queue.push_back((copied(push), size));
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Option<Value> {
        let (push, size) = self.queue.pop_front()?;
        self.bytes -= size;
        Some(push)
    }

    /// Drops all of them, and their memory.
    pub(crate) fn clear(&mut self) {
        if self.queue.capacity() > 0 {
            *self = Self::default();
        }
    }
}

/// Shows the number of messages, not their content.
impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pushes({}, {} bytes)", self.queue.len(), self.bytes)
    }
}

/// About how many bytes of memory a copy of a value takes.
fn size(value: &Value) -> usize {
    let inside = match value {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            items.iter().map(size).sum()
        }
        Value::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum(),
        Value::Error(error) => error.code().len() + error.message().len(),
        other => other.as_bytes().map_or(0, Bytes::len),
    };
    size_of::<Value>() + inside
}

/// The same value, sharing no buffer.
fn copied(value: Value) -> Value {
    let copy = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
    let list = |items: Vec<Value>| items.into_iter().map(copied).collect();
    match value {
        Value::Simple(text) => Value::Simple(copy(text)),
        Value::Bulk(bytes) => Value::Bulk(copy(bytes)),
        Value::BigNumber(digits) => Value::BigNumber(copy(digits)),
        Value::Verbatim { markdown, text } => Value::Verbatim { markdown, text: copy(text) },
        Value::Array(items) => Value::Array(list(items)),
        Value::Set(items) => Value::Set(list(items)),
        Value::Push(items) => Value::Push(list(items)),
        Value::Map(entries) => Value::Map(
            entries.into_iter().map(|(key, value)| (copied(key), copied(value))).collect(),
        ),
        plain @ (Value::Null
        | Value::Integer(_)
        | Value::Double(_)
        | Value::Boolean(_)
        | Value::Error(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(length: usize) -> Value {
        Value::Push(vec![Value::Bulk(Bytes::from(vec![b'x'; length]))])
    }

    #[test]
    fn number_and_memory_are_bounded_and_received_messages_do_not_count() {
        let mut pushes = Pushes::default();
        for _ in 0..1000 {
            pushes.keep(push(600), 2, 1000).expect("room");
            assert_eq!(pushes.keep(push(600), 2, 1000), Err(ProtocolError::TooManyPushBytes(1000)));
            pushes.keep(push(1), 2, 1000).expect("room");
            assert_eq!(pushes.keep(push(1), 2, 1000), Err(ProtocolError::TooManyPushes(2)));
            assert_eq!(pushes.take(), Some(push(600)));
            assert_eq!(pushes.take(), Some(push(1)));
            assert_eq!(pushes.take(), None);
        }
    }

    #[test]
    fn small_elements_count_with_the_memory_that_they_take() {
        let many = Value::Push(vec![Value::Null; 1000]);
        let refused = Pushes::default().keep(many, 1, 10_000);
        assert_eq!(refused, Err(ProtocolError::TooManyPushBytes(10_000)));
    }

    #[test]
    fn kept_messages_pin_no_read_buffer() {
        let buffer = Bytes::from(vec![b'x'; 100_000]);
        let mut pushes = Pushes::default();
        pushes.keep(Value::Push(vec![Value::Bulk(buffer.slice(..1))]), 1, 1000).expect("room");
        assert!(buffer.is_unique());
    }
}
