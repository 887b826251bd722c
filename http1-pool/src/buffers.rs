//! Spare buffers, so that an idle connection holds none and a busy one allocates none.
//!
//! Each thread keeps a few. A connection takes one when a request starts and gives it back when
//! the response is over, usually on the same thread.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes asked for in the first read of a response; `net/http` reads 4 KiB too.
pub(crate) const READ_SIZE: usize = 4 * 1024;
/// Read buffers that grew beyond this are given up.
const KEEP_READ_SIZE: usize = 16 * 1024;
/// Write buffers that grew beyond this are given up.
const KEEP_WRITE_SIZE: usize = 16 * 1024;
/// Buffers of each kind kept by a thread.
const SPARES: usize = 16;

#[derive(Default)]
struct Spares {
    read: Vec<BytesMut>,
    write: Vec<Vec<u8>>,
}

thread_local! {
    static SPARE: RefCell<Spares> = RefCell::default();
}

/// An empty read buffer. If an earlier response still uses its memory, the buffer takes new memory
/// when it is first filled.
pub(crate) fn take_read() -> BytesMut {
    with(|spares| spares.read.pop()).flatten().unwrap_or_default()
}

/// Takes back a read buffer that served reads of up to `read_size` bytes.
pub(crate) fn give_read(mut buffer: BytesMut, read_size: usize) {
    if read_size <= KEEP_READ_SIZE {
        buffer.clear();
        with(|spares| {
            if spares.read.len() < SPARES {
                spares.read.push(buffer);
            }
        });
    }
}

/// An empty write buffer.
pub(crate) fn take_write() -> Vec<u8> {
    with(|spares| spares.write.pop()).flatten().unwrap_or_else(|| Vec::with_capacity(1024))
}

/// Takes back a write buffer.
pub(crate) fn give_write(mut buffer: Vec<u8>) {
    if (1..=KEEP_WRITE_SIZE).contains(&buffer.capacity()) {
        buffer.clear();
        with(|spares| {
            if spares.write.len() < SPARES {
                spares.write.push(buffer);
            }
        });
    }
}

/// `None` while the thread is being torn down.
fn with<T>(f: impl FnOnce(&mut Spares) -> T) -> Option<T> {
    SPARE.try_with(|spares| f(&mut spares.borrow_mut())).ok()
}
