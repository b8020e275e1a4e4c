//! Many callers at once, each on a connection of its own, for a bounded time and number of requests.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::wire::Server;

/// How many call at once, and when they stop.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Callers; each has a connection and sends one request after the other.
    pub callers: usize,
    /// No request is begun after this time.
    pub time: Duration,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// How long each took, in no order.
    pub latencies: Vec<Duration>,
    /// From the first request's beginning to the last answer's end.
    pub elapsed: Duration,
}

impl Measured {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Lets the callers do `work` with their own `state` until the time is up or there is no more to do. `work` gets the
/// number of the request, counted over all callers, and tells whether there was one; what it prepares is in its time, so it prepares nothing.
///
/// # Panics
/// When a caller does: a figure of which some requests failed is none.
pub fn run<S>(
    load: Load,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> bool + Sync,
) -> Measured {
    let next = AtomicUsize::new(0);
    let ready = Barrier::new(load.callers);
    let each: Vec<(Instant, Instant, Vec<Duration>)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..load.callers)
            .map(|_| {
                scope.spawn(|| {
                    let mut state = state();
                    let mut latencies = Vec::new();
                    ready.wait();
                    let begun = Instant::now();
                    loop {
                        let sent = Instant::now();
                        let is_over = sent.duration_since(begun) >= load.time;
                        if is_over || !work(&mut state, next.fetch_add(1, Ordering::Relaxed)) {
                            return (begun, sent, latencies);
                        }
                        latencies.push(sent.elapsed());
                    }
                })
            })
            .collect();
        let joined = callers.into_iter().map(|caller| caller.join());
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let begun = each.iter().map(|(begun, ..)| *begun).min();
    let ended = each.iter().map(|(_, ended, _)| *ended).max();
    let elapsed = begun.zip(ended).map(|(begun, ended)| ended - begun);
    Measured {
        latencies: each
            .into_iter()
            .flat_map(|(.., latencies)| latencies)
            .collect(),
        elapsed: elapsed.unwrap_or_default(),
    }
}

/// Sends these requests, which were prepared before, and expects that status of each answer.
///
/// # Panics
/// When an answer is another, or none.
pub fn send(load: Load, server: &Server, requests: &[Vec<u8>], status: u16) -> Measured {
    let connect = || {
        server
            .connect()
            .unwrap_or_else(|e| panic!("no connection: {e}"))
    };
    run(load, connect, |connection, number| {
        let Some(request) = requests.get(number) else {
            return false;
        };
        let answer = connection
            .exchange(request)
            .unwrap_or_else(|e| panic!("no answer: {e}"));
        assert_eq!(
            answer.status,
            status,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_of_work_is_done_once_and_the_callers_share_it() {
        let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        let load = Load {
            callers: 4,
            time: Duration::from_secs(60),
        };
        let measured = run(
            load,
            || (),
            |(), number| {
                let known = done.get(number);
                known.is_some_and(|n| n.fetch_add(1, Ordering::Relaxed) == 0)
            },
        );
        assert_eq!(measured.latencies.len(), 100);
        assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        assert!(measured.rate() > 0.0);
    }

    #[test]
    fn the_time_ends_it() {
        let load = Load {
            callers: 2,
            time: Duration::ZERO,
        };
        let measured = run(load, || (), |(), _| true);
        assert_eq!(measured.latencies.len(), 0);
    }
}
