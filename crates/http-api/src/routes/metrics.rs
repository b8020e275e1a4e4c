//! `/metrics`: what operators watch, in the text format of Prometheus.

use app::{App, Measure, Metrics, Platform, Spent, Timing};
use domain::{Reason, Role};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;

use crate::answer::{Answer, Reply};
use crate::exposition::{Exposition, Kind, TEXT_FORMAT};
use crate::{gate, headers};

/// Microseconds in a second.
const MICROS: f64 = 1e6;

/// `GET /metrics`: of all tenants, so for whoever has the token of metrics, or may do everything.
pub async fn get<P: Platform>(app: &App<P>, parts: &Parts) -> Answer<P> {
    let token = app.config().metrics_token();
    if !token.is_some_and(|token| headers::bears(&parts.headers, token)) {
        gate::admit(app, parts, Role::Admin).await?;
    }
    let config = app.config();
    let text = text(&app.metrics().await?, config.max_running, config.max_queued);
    Ok(Reply::text(StatusCode::OK, text).header(CONTENT_TYPE, TEXT_FORMAT))
}

/// Every metric, whether there is something to tell or not, so that rates begin at zero. docs/OPERATIONS.md has the list.
fn text(metrics: &Metrics, max_running: u32, max_queued: u32) -> String {
    let mut text = Exposition::default();
    text.metric("executor_info", Kind::Gauge, "The version that answers")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u8);
    text.requests(metrics);
    text.executions(metrics);
    text.metric(
        "executor_dispatched_limit",
        Kind::Gauge,
        "The most executions that may be dispatched at once: the setting max_running",
    )
    .sample(&[], max_running);
    text.metric(
        "executor_queue_limit",
        Kind::Gauge,
        "The most executions that may wait for a place: the setting max_queued",
    )
    .sample(&[], max_queued);
    text.finished(&metrics.figures.finished);
    text.clocks(&metrics.timings);
    text.api_server(metrics);
    text.ticks(metrics);
    text.others(metrics);
    text.into_text()
}

/// The metrics, by what they are about.
trait About {
    fn requests(&mut self, metrics: &Metrics);
    fn executions(&mut self, metrics: &Metrics);
    fn finished(&mut self, counts: &[(Reason, u64)]);
    fn clocks(&mut self, timings: &[(Measure, String, Timing)]);
    fn api_server(&mut self, metrics: &Metrics);
    fn ticks(&mut self, metrics: &Metrics);
    fn others(&mut self, metrics: &Metrics);
}

impl About for Exposition {
    /// What was asked of Executor, and of the cluster.
    fn requests(&mut self, metrics: &Metrics) {
        let figures = &metrics.figures;
        self.metric(
            "executor_accepted_total",
            Kind::Counter,
            "Executions that were accepted",
        )
        .sample(&[], figures.accepted);
        self.metric(
            "executor_refused_total",
            Kind::Counter,
            "Requests that were refused though they were good, by cause; a batch is one",
        )
        .sample(&[("cause", "queue_full")], figures.refused);
        self.metric(
            "executor_dispatches_total",
            Kind::Counter,
            "How often it was decided to ask for a Job, those again that went back into the queue",
        )
        .sample(&[], figures.dispatches);
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

    /// How long the attempts took, clock by clock.
    fn clocks(&mut self, timings: &[(Measure, String, Timing)]) {
        for (measure, name, help) in [
            (
                Measure::Queue,
                "executor_queue_duration_seconds",
                "From when an attempt was due until its Job was asked for, told at its end",
            ),
            (
                Measure::Start,
                "executor_start_duration_seconds",
                "From when its Job was asked for until its container started, told at its end",
            ),
            (
                Measure::Run,
                "executor_run_duration_seconds",
                "From its container's start until its end",
            ),
            (
                Measure::Settle,
                "executor_settle_duration_seconds",
                "From its container's end, which clusters tell in whole seconds, until that was stored",
            ),
        ] {
            let found = timings.iter().find(|(of, _, _)| *of == measure);
            let none = Timing::default();
            let timing = found.map_or(&none, |(_, _, timing)| timing);
            self.metric(name, Kind::Histogram, help)
                .histogram(&[], measure.bounds(), timing);
        }
    }

    /// The requests to the API server.
    fn api_server(&mut self, metrics: &Metrics) {
        self.metric(
            "executor_kubernetes_requests_total",
            Kind::Counter,
            "Requests to the API server, by verb and code; not_sent and no_answer have none",
        );
        let mut verbs: Vec<(&str, Timing)> = Vec::new();
        for (_, label, timing) in metrics
            .timings
            .iter()
            .filter(|(measure, _, _)| *measure == Measure::Request)
        {
            let (verb, code) = label.split_once(' ').unwrap_or((label, ""));
            self.sample(&[("verb", verb), ("code", code)], timing.total);
            match verbs.iter_mut().find(|(known, _)| *known == verb) {
                Some((_, of_verb)) => of_verb.add(timing),
                None => verbs.push((verb, timing.clone())),
            }
        }
        let watches = spent(metrics).watches;
        self.sample(&[("verb", "watch"), ("code", "200")], watches);
        self.metric(
            "executor_kubernetes_request_duration_seconds",
            Kind::Histogram,
            "From a request to the API server until the head of its answer, by verb, granted watches left out",
        );
        for (verb, timing) in &verbs {
            self.histogram(&[("verb", verb)], Measure::Request.bounds(), timing);
        }
    }

    /// Who works, and what that costs.
    fn ticks(&mut self, metrics: &Metrics) {
        self.metric(
            "executor_last_tick_age_seconds",
            Kind::Gauge,
            "How long ago a tick last renewed its lease or gave it back, absent before the first",
        );
        if let Some(age) = metrics.last_tick {
            self.sample(&[], age.as_secs_f64());
        }
        self.metric(
            "executor_tick_lease_held",
            Kind::Gauge,
            "1 while a tick is at work, else 0",
        )
        .sample(&[], u8::from(metrics.is_ticking));
        let begun = metrics.lease.as_ref().map_or(0, |lease| lease.fence);
        self.metric(
            "executor_ticks_begun_total",
            Kind::Counter,
            "How often a tick took the lease",
        )
        .sample(&[], begun);
        let spent = spent(metrics);
        for (name, help, value) in [
            (
                "executor_ticks_total",
                "Ticks that came to their end and gave the lease back; the counts of what ticks spent are of these",
                spent.terms,
            ),
            (
                "executor_tick_failures_total",
                "What went wrong in ticks and was left to the next one",
                spent.failures,
            ),
            (
                "executor_tick_statements_total",
                "Statements that ticks sent to the database",
                spent.statements,
            ),
            (
                "executor_tick_requests_total",
                "Requests that ticks sent to the API server",
                spent.requests,
            ),
        ] {
            self.metric(name, Kind::Counter, help).sample(&[], value);
        }
        self.metric(
            "executor_tick_seconds_total",
            Kind::Counter,
            "How long ticks worked, from being called until the lease was given back",
        )
        .sample(&[], spent.micros as f64 / MICROS);
    }

    /// What is cleared away and told.
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
        let [delivered, again, failed] = figures.webhook_attempts;
        self.metric(
            "executor_webhook_attempts_total",
            Kind::Counter,
            "Attempts to deliver a webhook, by what became of the delivery: delivered, tried again later, given up",
        )
        .sample(&[("result", "delivered")], delivered)
        .sample(&[("result", "again")], again)
        .sample(&[("result", "failed")], failed);
    }
}

/// What all ticks have spent.
fn spent(metrics: &Metrics) -> Spent {
    let lease = metrics.lease.as_ref();
    lease.map_or_else(Spent::default, |lease| lease.spent)
}
