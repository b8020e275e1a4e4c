//! The text format of Prometheus, version 0.0.4: metrics with their help, type and samples.

use std::fmt::Display;

use app::Timing;
use http::header::HeaderValue;

/// The media type, which every scraper reads.
pub const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Microseconds in a second.
const MICROS: f64 = 1e6;

/// What a scraper may conclude from two values of a metric.
#[derive(Clone, Copy)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by size, each with those below, which only grow.
    Histogram,
}

/// The text, metric by metric.
#[derive(Default)]
pub struct Exposition {
    written: String,
    /// The metric that was begun last.
    name: &'static str,
}

impl Exposition {
    /// Begins a metric; its samples follow. The words must have no line break and no backslash.
    pub fn metric(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        let head = format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n");
        self.written.push_str(&head);
        self
    }

    /// A value of that metric. The labels' values must need no escape.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.line("", labels, value)
    }

    /// A histogram of that metric in seconds, whose buckets end there.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[f64],
        timing: &Timing,
    ) -> &mut Self {
        let with = |bound: &str, text: &mut Self, below: u64| {
            let labels = [labels, &[("le", bound)]].concat();
            text.line("_bucket", &labels, below);
        };
        let mut below = 0;
        for (bound, in_it) in bounds.iter().zip(timing.buckets) {
            below += in_it;
            with(&bound.to_string(), self, below);
        }
        with("+Inf", self, timing.total);
        // Sums of up to 285 years are exact in a double.
        self.line("_sum", labels, timing.micros as f64 / MICROS);
        self.line("_count", labels, timing.total)
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let name = self.name;
        let pairs = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let line = match pairs.collect::<Vec<_>>().join(",") {
            none if none.is_empty() => format!("{name}{suffix} {value}\n"),
            pairs => format!("{name}{suffix}{{{pairs}}} {value}\n"),
        };
        self.written.push_str(&line);
        self
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.written
    }
}
