//! For the tests of this crate: a transport that plays a script and keeps what it was sent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::transport::{Body, Timeouts, Transport, TransportError};
use crate::{Client, ClientConfig};

/// Runs a future whose every step is ready at once.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a fake never has to wait"),
    }
}

/// A body in pieces, ending well or broken off.
#[derive(Default)]
pub(crate) struct FakeBody {
    pieces: VecDeque<Bytes>,
    breaks: bool,
}

impl FakeBody {
    pub(crate) fn in_pieces(bytes: &[u8], step: usize) -> Self {
        let pieces = bytes.chunks(step).map(Bytes::copy_from_slice).collect();
        Self {
            pieces,
            breaks: false,
        }
    }

    pub(crate) fn then_breaks(mut self) -> Self {
        self.breaks = true;
        self
    }
}

impl Body for FakeBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        match self.pieces.pop_front() {
            None if self.breaks => Err(TransportError::Unknown("broken off".to_owned())),
            piece => Ok(piece),
        }
    }
}

type Answer = Result<http::Response<FakeBody>, TransportError>;

/// Gives the scripted answers in order.
#[derive(Default)]
pub(crate) struct FakeTransport {
    answers: RefCell<VecDeque<Answer>>,
    sent: RefCell<Vec<(http::Request<Vec<u8>>, Timeouts)>>,
}

impl FakeTransport {
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: RefCell::new(answers.into_iter().collect()),
            sent: RefCell::default(),
        }
    }

    /// What was sent, oldest first.
    pub(crate) fn take_sent(&self) -> Vec<(http::Request<Vec<u8>>, Timeouts)> {
        self.sent.take()
    }
}

impl Transport for &FakeTransport {
    type Body = FakeBody;

    async fn send(&self, request: http::Request<Vec<u8>>, timeouts: Timeouts) -> Answer {
        self.sent.borrow_mut().push((request, timeouts));
        self.answers
            .borrow_mut()
            .pop_front()
            .expect("a request that the script does not foresee")
    }
}

/// An answer of that status and body, in two pieces.
pub(crate) fn answer(status: u16, body: &str) -> Answer {
    answer_with(
        status,
        &[],
        FakeBody::in_pieces(body.as_bytes(), body.len() / 2 + 1),
    )
}

/// An answer of that status, headers and body.
pub(crate) fn answer_with(status: u16, headers: &[(&str, &str)], body: FakeBody) -> Answer {
    let mut builder = http::Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    Ok(builder.body(body).expect("valid"))
}

/// A client of namespace `runs` with the token `t0k3n`.
pub(crate) fn client(transport: &FakeTransport) -> Client<&FakeTransport> {
    let config = ClientConfig::new("https://cluster:6443/", "runs", Some("t0k3n".to_owned()));
    Client::new(config, transport)
}
