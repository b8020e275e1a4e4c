//! WASI byte streams, awaited without blocking the other tasks of the instance.

use bytes::Bytes;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wstd::runtime::AsyncPollable;

/// How much is read at once, in bytes: what the host hands over in one call without keeping more in memory.
const READ_CHUNK_BYTES: u64 = 64 * 1024;

/// A stream to read. The subscription is a child of the stream and stands first, so that it is dropped first.
pub struct Reader {
    ready: AsyncPollable,
    stream: InputStream,
}

impl Reader {
    /// Takes the stream.
    pub fn new(stream: InputStream) -> Self {
        Self {
            ready: AsyncPollable::new(stream.subscribe()),
            stream,
        }
    }

    /// The next bytes, or none at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The host's words when the stream breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.stream.read(READ_CHUNK_BYTES) {
                Ok(bytes) if bytes.is_empty() => self.ready.wait_for().await,
                Ok(bytes) => return Ok(Some(bytes.into())),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
            }
        }
    }
}

/// Writes as much as the host takes without waiting; answers what is left.
///
/// # Errors
/// The host's words when the stream is broken or closed.
pub fn write_now<'a>(stream: &OutputStream, mut bytes: &'a [u8]) -> Result<&'a [u8], String> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write().map_err(broken)?).unwrap_or(usize::MAX);
        if room == 0 {
            break;
        }
        let (now, rest) = bytes.split_at(room.min(bytes.len()));
        stream.write(now).map_err(broken)?;
        bytes = rest;
    }
    Ok(bytes)
}

/// Writes all of it, waiting for room as needed.
///
/// # Errors
/// The host's words when the stream is broken or closed.
pub async fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), String> {
    let ready = AsyncPollable::new(stream.subscribe());
    loop {
        bytes = write_now(stream, bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        ready.wait_for().await;
    }
}

fn broken(error: StreamError) -> String {
    match error {
        StreamError::Closed => "the stream is closed".to_owned(),
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
    }
}
