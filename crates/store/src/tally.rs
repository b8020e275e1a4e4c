//! Measurements: gathered in an instance, and added to the database's histograms now and then, in a write of its own or beside another.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::rows::{Column, Reader, count};
use crate::sql::{Builder, Sql, Value};
use crate::{ExecutionStore, Step, StoreError, Written};

/// How many buckets a histogram has, besides that of what is beyond the last.
pub const BUCKETS: usize = 12;

/// The names of their columns.
const COLUMNS: [&str; BUCKETS] = [
    "bucket_1",
    "bucket_2",
    "bucket_3",
    "bucket_4",
    "bucket_5",
    "bucket_6",
    "bucket_7",
    "bucket_8",
    "bucket_9",
    "bucket_10",
    "bucket_11",
    "bucket_12",
];

/// Where the buckets of the clocks end, in seconds: scripts take from a moment to half a day.
const CLOCK_SECONDS: [f64; BUCKETS] = [
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 43_200.0,
];

/// Where those of what should take a moment end, in seconds: up to where callers and claims give up.
const MOMENT_SECONDS: [f64; BUCKETS] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// What is measured. Where the buckets of one end must never change: what is stored was counted by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// From when an attempt was due until its Job was asked for.
    Queue,
    /// From then until its container started.
    Start,
    /// From then until its end.
    Run,
    /// From the container's end until that was stored.
    Settle,
    /// From a request to the API server until the head of its answer.
    Request,
}

impl Measure {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Queue,
        Self::Start,
        Self::Run,
        Self::Settle,
        Self::Request,
    ];

    /// The name in the store.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Start => "start",
            Self::Run => "run",
            Self::Settle => "settle",
            Self::Request => "request",
        }
    }

    /// Where its buckets end, each included, in seconds.
    pub const fn bounds(self) -> &'static [f64; BUCKETS] {
        match self {
            Self::Queue | Self::Start | Self::Run => &CLOCK_SECONDS,
            Self::Settle | Self::Request => &MOMENT_SECONDS,
        }
    }
}

/// One histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How many were measured.
    pub total: u64,
    /// The sum of them, in microseconds.
    pub micros: u64,
    /// How many of them are in each bucket, and not in one below.
    pub buckets: [u64; BUCKETS],
}

impl Timing {
    fn observe(&mut self, took: Duration, bounds: &[f64; BUCKETS]) {
        self.total += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros = self.micros.saturating_add(micros);
        let seconds = took.as_secs_f64();
        if let Some(bucket) = bounds.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
    }

    /// The two as one.
    pub fn add(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        self.micros = self.micros.saturating_add(other.micros);
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.saturating_add(more);
        }
    }

    fn columns(&self, measure: Measure, label: &str) -> Vec<Column> {
        let mut columns: Vec<(&'static str, Value)> = vec![
            ("name", measure.as_str().into()),
            ("label", label.into()),
            ("total", count(self.total).into()),
            ("micros", count(self.micros).into()),
        ];
        let buckets = COLUMNS.into_iter().zip(self.buckets);
        columns.extend(buckets.map(|(name, in_it)| (name, count(in_it).into())));
        columns
    }
}

/// What was measured, in the order of the store's rows: so that no two who add at once wait for each other.
type Timings = BTreeMap<(Measure, String), Timing>;

/// What an instance has measured and not stored yet.
#[derive(Debug, Default)]
pub struct Tally(RefCell<Timings>);

impl Tally {
    /// Notes how long one took. There are few labels: what one measures is told apart by, such as verbs.
    pub fn observe(&self, measure: Measure, label: &str, took: Duration) {
        let mut timings = self.0.borrow_mut();
        let timing = timings.entry((measure, label.to_owned())).or_default();
        timing.observe(took, measure.bounds());
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// What is there, for whoever stores it.
    fn take(&self) -> Timings {
        self.0.take()
    }

    /// It was not stored.
    fn put_back(&self, timings: &Timings) {
        let mut left = self.0.borrow_mut();
        for (key, timing) in timings {
            left.entry(key.clone()).or_default().add(timing);
        }
    }
}

impl<S: Sql> ExecutionStore<S> {
    /// Adds what was measured to the database's histograms, and empties the tally. Where that fails it is kept, so it may be
    /// counted twice where only the answer was lost.
    pub async fn flush(&self, tally: &Tally) -> Result<(), StoreError> {
        let timings = tally.take();
        let Some(statement) = self.add_timings(&timings) else {
            return Ok(());
        };
        let statement = statement.text("true").add_to_timings().statement();
        if let Err(error) = self.query(statement).await {
            tally.put_back(&timings);
            return Err(error);
        }
        Ok(())
    }

    /// As [`update`](Self::update), and adds what was measured in the same write, if that comes about.
    pub async fn update_with_tally(
        &self,
        step: impl Into<Step<'_>>,
        tally: &Tally,
    ) -> Result<Written, StoreError> {
        let step = step.into();
        let timings = tally.take();
        let add = self.add_timings(&timings);
        let others = add.map(|part| part.if_changed().add_to_timings());
        let written = self
            .write(self.set(step.next), &step, others.into_iter().collect())
            .await;
        if !matches!(written, Ok(Written::Updated)) {
            tally.put_back(&timings);
        }
        written
    }

    /// The rows to add, up to the condition on which it is done; none for none.
    fn add_timings(&self, timings: &Timings) -> Option<Builder> {
        let rows: Vec<_> = timings
            .iter()
            .map(|((measure, label), timing)| timing.columns(*measure, label))
            .collect();
        (!rows.is_empty()).then(|| self.insert_rows("timings", rows))
    }

    /// The histograms of the database's whole life, each with its measure and label.
    pub async fn timings(&self) -> Result<Vec<(Measure, String, Timing)>, StoreError> {
        let statement = self
            .build("SELECT name, label, total, micros, ")
            .commas(COLUMNS, |b, name| b.text(name))
            .text(" FROM timings")
            .statement();
        let mut all = Vec::new();
        for row in self.query(statement).await?.rows {
            let mut reader = Reader::new("timings", row);
            let (name, label) = (reader.text("name")?, reader.text("label")?);
            let mut timing = Timing {
                total: reader.number("total")?,
                micros: reader.number("micros")?,
                ..Timing::default()
            };
            for (name, bucket) in COLUMNS.into_iter().zip(&mut timing.buckets) {
                *bucket = reader.number(name)?;
            }
            // What only a newer version measures is not for this one to tell.
            let measure = Measure::ALL.into_iter().find(|m| m.as_str() == name);
            all.extend(measure.map(|measure| (measure, label, timing)));
        }
        Ok(all)
    }
}

impl Builder {
    fn add_to_timings(self) -> Self {
        self.text(" ON CONFLICT (name, label) DO UPDATE SET ")
            .commas(["total", "micros"].into_iter().chain(COLUMNS), |b, name| {
                b.text(&format!("{name} = timings.{name} + excluded.{name}"))
            })
    }
}
