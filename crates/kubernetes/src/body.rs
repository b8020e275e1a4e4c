//! Reading the body of an answer up to a limit.

use crate::error::Error;
use crate::transport::{Body, TransportError};

/// How much room is made for a body at first; most answers about one object fit.
const FIRST_CAPACITY_BYTES: usize = 8 * 1024;

/// The whole body.
///
/// # Errors
/// [`Error::BodyTooLarge`] when it has more than `limit_bytes`; what the transport says otherwise.
pub(crate) async fn whole<B: Body>(body: &mut B, limit_bytes: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(FIRST_CAPACITY_BYTES.min(limit_bytes));
    while let Some(chunk) = body.chunk().await? {
        if chunk.len() > limit_bytes - bytes.len() {
            return Err(Error::BodyTooLarge { limit_bytes });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The beginning of the body, as far as it arrives: for an answer whose status code already tells the most.
pub(crate) async fn beginning<B: Body>(body: &mut B, limit_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < limit_bytes {
        let chunk: Result<_, TransportError> = body.chunk().await;
        let Ok(Some(chunk)) = chunk else { break };
        let room = limit_bytes - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    //! Bodies at, under and over the limit, in any pieces.
    use super::*;
    use crate::fake::{FakeBody, ready};

    #[test]
    fn a_body_is_read_up_to_its_limit_and_not_beyond() {
        for step in 1..=5 {
            let bytes = b"12345";
            let read = |limit| ready(whole(&mut FakeBody::in_pieces(bytes, step), limit));
            assert_eq!(read(5).expect("fits"), bytes);
            assert!(matches!(
                read(4),
                Err(Error::BodyTooLarge { limit_bytes: 4 })
            ));
        }
    }

    #[test]
    fn of_a_long_or_broken_body_the_beginning_is_kept() {
        assert_eq!(
            ready(beginning(&mut FakeBody::in_pieces(b"12345", 2), 3)),
            b"123"
        );
        assert_eq!(
            ready(beginning(
                &mut FakeBody::in_pieces(b"12345", 2).then_breaks(),
                9
            )),
            b"12345"
        );
    }

    #[test]
    fn a_broken_body_is_no_short_body() {
        let error =
            ready(whole(&mut FakeBody::in_pieces(b"{}", 2).then_breaks(), 9)).expect_err("broken");
        assert!(matches!(
            error,
            Error::Transport(TransportError::Unknown(_))
        ));
    }
}
