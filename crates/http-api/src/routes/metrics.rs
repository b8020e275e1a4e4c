//! `/metrics`: what operators watch, in the text format of Prometheus.

use std::fmt::Display;

use app::{App, Metrics, Platform};
use domain::Reason;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::answer::{Answer, Reply};

/// Version 0.0.4 of the text format, which every scraper reads.
const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What a scraper may conclude from two values of a metric.
#[derive(Clone, Copy)]
enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// The text, metric by metric.
#[derive(Default)]
struct Text {
    written: String,
    /// The metric that was begun last.
    name: &'static str,
}

/// `GET /metrics`.
pub async fn get<P: Platform>(app: &App<P>) -> Answer<P> {
    let text = text(&app.metrics().await?, app.config().max_running);
    Ok(Reply::text(StatusCode::OK, text).header(CONTENT_TYPE, TEXT_FORMAT))
}

/// Every metric, whether there is something to tell or not, so that rates begin at zero. docs/OPERATIONS.md has the list.
fn text(metrics: &Metrics, max_running: u32) -> String {
    let mut text = Text::default();
    text.metric("executor_info", Kind::Gauge, "The version that answers")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u8);
    text.executions(metrics);
    text.metric(
        "executor_dispatched_limit",
        Kind::Gauge,
        "The most executions that may be dispatched at once: the setting max_running",
    )
    .sample(&[], max_running);
    text.finished(&metrics.figures.finished);
    text.others(metrics);
    text.written
}

impl Text {
    /// Begins a metric; its samples follow. The words must have no line break and no backslash.
    fn metric(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.name = name;
        let head = format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n");
        self.written.push_str(&head);
        self
    }

    /// A value of that metric. The labels' values must need no escape.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let name = self.name;
        let pairs = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let line = match pairs.collect::<Vec<_>>().join(",") {
            none if none.is_empty() => format!("{name} {value}\n"),
            pairs => format!("{name}{{{pairs}}} {value}\n"),
        };
        self.written.push_str(&line);
        self
    }

    /// Where the executions are.
    fn executions(&mut self, metrics: &Metrics) {
        let figures = &metrics.figures;
        self.metric(
            "executor_executions",
            Kind::Gauge,
            "Executions by status, as far as their records are kept",
        )
        .sample(&[("status", "QUEUED")], figures.queued)
        .sample(&[("status", "RUNNING")], figures.running)
        .sample(&[("status", "FINISHED")], figures.kept());
        self.metric(
            "executor_queue_depth",
            Kind::Gauge,
            "Executions that wait for a place, before the Job of their attempt is asked for",
        )
        .sample(&[], figures.waiting);
        let oldest = metrics.oldest_queued.unwrap_or_default();
        self.metric(
            "executor_oldest_queued_age_seconds",
            Kind::Gauge,
            "For how long the oldest execution that is QUEUED has been waiting, 0 when none is",
        )
        .sample(&[], oldest.as_secs_f64());
        self.metric(
            "executor_dispatched",
            Kind::Gauge,
            "Executions that have a place: the Job of their attempt was asked for, and has not ended",
        )
        .sample(&[], figures.dispatched);
    }

    /// The ends for each reason there is.
    fn finished(&mut self, counts: &[(Reason, u64)]) {
        self.metric(
            "executor_finished_total",
            Kind::Counter,
            "Executions that ended, by outcome and reason",
        );
        for reason in Reason::ALL {
            let count = counts.iter().find(|(counted, _)| counted == reason);
            let labels = [
                ("outcome", reason.outcome().as_str()),
                ("reason", reason.as_str()),
            ];
            self.sample(&labels, count.map_or(0, |(_, count)| *count));
        }
    }
    /// What is cleared away, told and watched over.
    fn others(&mut self, metrics: &Metrics) {
        let figures = &metrics.figures;
        self.metric(
            "executor_forgotten_total",
            Kind::Counter,
            "Records of finished executions that are gone, by cause",
        )
        .sample(&[("cause", "expired")], figures.expired)
        .sample(&[("cause", "deleted")], figures.deleted);
        self.metric(
            "executor_swept_total",
            Kind::Counter,
            "Jobs that were deleted since nobody remembered what they were made for",
        )
        .sample(&[], figures.swept);
        self.metric(
            "executor_webhook_deliveries_pending",
            Kind::Gauge,
            "Webhook deliveries that are to be tried, for the first time or again",
        )
        .sample(&[], figures.deliveries_pending);
        self.metric(
            "executor_last_tick_age_seconds",
            Kind::Gauge,
            "How long ago a tick last left its mark, absent before the first",
        );
        if let Some(age) = metrics.last_tick {
            self.sample(&[], age.as_secs_f64());
        }
    }
}
