//! Reading the log of a container.

use bytes::Bytes;
use jiff::Timestamp;
use kube_core::subresource::LogParams;

use crate::error::Error;
use crate::job::CONTAINER_NAME;
use crate::transport::Body;

/// How a log is read. The default is all of it, as far as it goes now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The container; none is the script's.
    pub container: Option<String>,
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u32>,
    /// Only what was written in the last so many seconds.
    pub since_seconds: Option<u32>,
    /// Only what was written since, in whole seconds: kubelets leave out the rest of it. Goes before `since_seconds`.
    pub since_time: Option<Timestamp>,
    /// Each line begins with its time (RFC 3339 with nanoseconds, then a space).
    pub timestamps: bool,
    /// At most so many bytes, from the beginning of what the other options leave.
    pub limit_bytes: Option<u64>,
}

impl LogOptions {
    pub(crate) fn params(&self) -> LogParams {
        LogParams {
            container: Some(
                self.container
                    .clone()
                    .unwrap_or_else(|| CONTAINER_NAME.to_owned()),
            ),
            follow: self.follow,
            tail_lines: self.tail_lines.map(i64::from),
            since_seconds: match self.since_time {
                Some(_) => None,
                None => self.since_seconds.map(i64::from),
            },
            since_time: self.since_time,
            timestamps: self.timestamps,
            limit_bytes: self
                .limit_bytes
                .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
            ..LogParams::default()
        }
    }
}

/// A log, piece by piece.
pub struct LogStream<B> {
    pub(crate) body: B,
}

impl<B: Body> LogStream<B> {
    /// The next bytes, exactly as the container wrote them; none at the end.
    ///
    /// # Errors
    /// When the log breaks off before its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(self.body.chunk().await?)
    }
}
