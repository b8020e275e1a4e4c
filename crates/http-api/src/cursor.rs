//! The text form of a place in a list: opaque to callers, safe in URLs.

use app::Cursor;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ExecutionId;
use jiff::Timestamp;

/// The first byte, so that another form can be told from this one.
const VERSION: u8 = 1;

/// Version, microseconds, UUID.
const LENGTH_BYTES: usize = 1 + 8 + 16;

/// Writes a cursor.
pub fn encode(cursor: &Cursor) -> String {
    let mut bytes = Vec::with_capacity(LENGTH_BYTES);
    bytes.push(VERSION);
    bytes.extend(cursor.created_at.as_microsecond().to_be_bytes());
    bytes.extend(cursor.id.0.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor; none for anything that [`encode`] has not written.
pub fn decode(text: &str) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (micros, id) = rest.split_first_chunk::<8>()?;
    let id = <[u8; 16]>::try_from(id).ok()?;
    if *version != VERSION {
        return None;
    }
    Some(Cursor {
        created_at: Timestamp::from_microsecond(i64::from_be_bytes(*micros)).ok()?,
        id: ExecutionId(uuid::Uuid::from_bytes(id)),
    })
}
