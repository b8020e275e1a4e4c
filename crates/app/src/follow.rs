//! A log followed line by line: live while the script runs, from the store afterwards, with the same places in both.

use std::pin::pin;
use std::time::Duration;

use domain::{Execution, ExecutionId, Status};
use futures::future::{self, Either};
use jiff::{SignedDuration, Timestamp};
use kubernetes::{LogStream, PodObservation, Transport};

use crate::lines::{LineReader, LogNews, Place, StoredReader};
use crate::logs::has_log;
use crate::{App, Error, Platform, Runtime, View};

/// How often a follower looks whether the script has started, or its end is stored. It asks the store only.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The pause before the live log is opened again after it broke: a kubelet or an API server comes back in its own time.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// The end of a log that was read to its end is stored within a moment. After this long the cluster is asked again
/// whether it really was the end: old kubelets end a stream when they rotate the log.
const SETTLE: SignedDuration = SignedDuration::from_secs(5);

/// What has been written comes without pauses. One as long as this, before the place was reached, says that the log is
/// shorter than the place: the kubelet has rotated it.
const PASS_OVER_PATIENCE: Duration = Duration::from_secs(10);

/// About so many bytes of a stored log are given at once.
const STORED_PIECE_BYTES: usize = 64 * 1024;

/// A log that is being followed from a place on.
pub struct LogFollower<P: Platform> {
    id: ExecutionId,
    /// None until the first look.
    attempt: Option<u32>,
    place: Place,
    stage: Stage<P>,
}

enum Stage<P: Platform> {
    /// The record tells how to go on.
    Look,
    /// From the cluster.
    Live(LogStream<<P::Transport as Transport>::Body>, LineReader),
    /// Read to its end in the cluster, at that time; the end is being stored.
    Settling(LineReader, Timestamp),
    /// From the store.
    Stored(StoredReader, Box<View>),
    /// All was given.
    Ended,
}

/// What a follower is given next.
#[derive(Clone, Debug, PartialEq)]
pub enum FollowedLog {
    /// More of the log, in its order; never empty.
    News(Vec<LogNews>),
    /// All of it was given.
    End {
        /// The execution, finished or waiting for another attempt.
        view: Box<View>,
        /// Where the log ends.
        place: Place,
    },
}

impl<P: Platform> LogFollower<P> {
    /// Follows the log of that attempt from that place on; without a number, of the attempt that is on at the first look.
    pub const fn new(id: ExecutionId, attempt: Option<u32>, from: Place) -> Self {
        Self {
            id,
            attempt,
            place: from,
            stage: Stage::Look,
        }
    }

    /// The attempt whose log it is, once anything was given.
    pub fn attempt(&self) -> u32 {
        self.attempt.unwrap_or(1)
    }

    /// Waits for more; none after the end, or when the execution is not there any more. Dropping the future loses nothing.
    ///
    /// The API server may be away for a while; then it is asked again and again, for as long as somebody listens.
    ///
    /// # Errors
    /// When the store cannot be read; the same call can be made again.
    pub async fn next(&mut self, app: &App<P>) -> Result<Option<FollowedLog>, Error> {
        loop {
            let news = match &mut self.stage {
                Stage::Ended => return Ok(None),
                Stage::Live(..) => self.live(app).await,
                Stage::Look | Stage::Settling(..) => self.look(app).await?,
                Stage::Stored(lines, view) => {
                    let news = some(lines);
                    if news.is_empty() {
                        let (view, place) = (view.clone(), lines.place());
                        self.stage = Stage::Ended;
                        return Ok(Some(FollowedLog::End { view, place }));
                    }
                    news
                }
            };
            if let Some(last) = news.last() {
                self.place = last.place();
                return Ok(Some(FollowedLog::News(news)));
            }
        }
    }

    /// Reads on from the cluster. Nothing is given only where the stage has changed or more must be read.
    async fn live(&mut self, app: &App<P>) -> Vec<LogNews> {
        let Stage::Live(stream, lines) = &mut self.stage else {
            return Vec::new();
        };
        let passing_over = lines.is_before();
        let read = {
            let patience = async {
                if passing_over {
                    app.runtime.sleep(PASS_OVER_PATIENCE).await;
                } else {
                    future::pending::<()>().await;
                }
            };
            match future::select(pin!(stream.chunk()), pin!(patience)).await {
                Either::Left((read, _)) => Some(read),
                Either::Right(_) => None,
            }
        };
        let Some(read) = read else {
            return self.start_again();
        };
        match read {
            Ok(Some(bytes)) => match lines.push(bytes) {
                Ok(()) => std::iter::from_fn(|| lines.line()).collect(),
                Err(_) => self.start_again(),
            },
            // Shorter than it was: it is being taken away, and what is stored of it will tell.
            Ok(None) if passing_over => self.pause(app).await,
            Ok(None) => {
                if let Stage::Live(_, lines) = std::mem::replace(&mut self.stage, Stage::Look) {
                    self.stage = Stage::Settling(lines, app.runtime.now());
                }
                Vec::new()
            }
            Err(_) => self.pause(app).await,
        }
    }

    async fn pause(&mut self, app: &App<P>) -> Vec<LogNews> {
        self.stage = Stage::Look;
        app.runtime.sleep(REOPEN_PAUSE).await;
        Vec::new()
    }

    fn start_again(&mut self) -> Vec<LogNews> {
        self.stage = Stage::Look;
        vec![LogNews::Gap]
    }

    /// Finds out where to read on.
    async fn look(&mut self, app: &App<P>) -> Result<Vec<LogNews>, Error> {
        let Some(execution) = app.store.get(self.id).await? else {
            self.stage = Stage::Ended;
            return Ok(Vec::new());
        };
        let attempt = *self.attempt.get_or_insert(execution.attempt);
        if execution.status == Status::Finished || attempt < execution.attempt {
            return self.stored(app, execution, attempt).await;
        }
        let settles = match &self.stage {
            Stage::Settling(_, since) => app.runtime.now().duration_since(*since) < SETTLE,
            _ => false,
        };
        if settles || execution.started_at.is_none() || attempt > execution.attempt {
            app.runtime.sleep(LOOK_INTERVAL).await;
            return Ok(Vec::new());
        }
        match self.open(app, &execution).await {
            Ok(true) => Ok(Vec::new()),
            // Not there yet, or out of reach.
            Ok(false) | Err(_) => {
                app.runtime.sleep(REOPEN_PAUSE).await;
                Ok(Vec::new())
            }
        }
    }

    /// Opens the live log, if there is more to come of it.
    async fn open(
        &mut self,
        app: &App<P>,
        execution: &Execution,
    ) -> Result<bool, kubernetes::Error> {
        let client = app.kubernetes_of(execution);
        let pods = client.pods_of_job(&execution.job_name()).await?;
        let ours = |pod: &&PodObservation| pod.execution_id == Some(execution.id.0);
        let Some(pod) = pods.iter().find(|pod| ours(pod) && has_log(pod)) else {
            return Ok(false);
        };
        if matches!(self.stage, Stage::Settling(..)) && pod.terminated.is_some() {
            return Ok(false);
        }
        let options = kubernetes::LogOptions {
            follow: true,
            ..Default::default()
        };
        let stream = client.read_log(&pod.name, &options).await?;
        self.stage = Stage::Live(stream, LineReader::new(self.place));
        Ok(true)
    }

    async fn stored(
        &mut self,
        app: &App<P>,
        execution: Execution,
        attempt: u32,
    ) -> Result<Vec<LogNews>, Error> {
        let log = app.store.attempt_log(self.id, attempt).await?;
        let log = log.unwrap_or_default();
        let view = Box::new(app.view(execution).await?);
        let mut news = Vec::new();
        let lines = match StoredReader::new(log.clone(), self.place) {
            Ok(lines) => lines,
            Err(_) => match std::mem::replace(&mut self.stage, Stage::Look) {
                // It was read to its end while it ran; what is stored of it has lost its beginning, or all.
                Stage::Settling(lines, _) => StoredReader::rest_of(lines),
                _ => {
                    news.push(LogNews::Gap);
                    // The beginning is a place of every log.
                    StoredReader::new(log, Place::START)
                        .unwrap_or_else(|_| StoredReader::rest_of(LineReader::new(Place::START)))
                }
            },
        };
        self.stage = Stage::Stored(lines, view);
        Ok(news)
    }
}

/// Some more of a stored log.
fn some(lines: &mut StoredReader) -> Vec<LogNews> {
    let mut bytes = 0;
    let mut news = Vec::new();
    while bytes < STORED_PIECE_BYTES
        && let Some(next) = lines.next()
    {
        bytes += match &next {
            // Each costs its reader some bytes beyond its text.
            LogNews::Line { bytes, .. } => bytes.len() + size_of::<LogNews>(),
            LogNews::Lost { .. } | LogNews::Gap => 0,
        };
        news.push(next);
    }
    news
}
