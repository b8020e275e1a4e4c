//! The operator's log: each line with its level, and with the trace, the span and the execution that it is about.

use std::fmt::Display;

use domain::{Execution, ExecutionId, TraceContext};

use crate::{App, Platform, Runtime};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The ordinary course of things.
    Info,
    /// Something did not work, and is tried again.
    Warn,
    /// Something did not work, and somebody has noticed or must look.
    Error,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A line's own fields.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

impl<P: Platform> App<P> {
    /// Notes what the request that this instance serves says of its trace: executions that it accepts belong to that, and
    /// the lines that it logs.
    pub fn serve_in_trace(&self, trace: Option<TraceContext>) {
        self.trace.set(trace);
    }

    /// The trace of the request that is served, if it has one.
    pub(crate) fn request_trace(&self) -> Option<TraceContext> {
        self.trace.get()
    }

    /// From now on this instance's span is that, and what it logs is a tick's.
    pub(crate) fn tick_in_span(&self, span: u64) {
        self.span.set(Some(span));
        self.is_tick.set(true);
    }

    /// The span that is this instance's work: its requests come from there.
    pub(crate) fn span(&self) -> u64 {
        let span = self.span.get();
        let span = span.unwrap_or_else(|| u64::from_be_bytes(self.runtime.random()).max(1));
        self.span.set(Some(span));
        span
    }

    /// What a request of ours for that execution says of its trace.
    pub(crate) fn traceparent(&self, execution: &Execution) -> String {
        execution.trace_from(self.span()).to_string()
    }

    /// Logs a line about nothing in particular.
    pub(crate) fn report(&self, level: Level, message: &str, fields: Fields<'_>) {
        self.write_line(level, message, self.trace.get(), None, fields);
    }

    /// Logs a line about that execution.
    pub(crate) fn report_of(
        &self,
        level: Level,
        execution: &Execution,
        message: &str,
        fields: Fields<'_>,
    ) {
        let trace = execution.trace_from(self.span());
        self.write_line(level, message, Some(trace), Some(execution.id), fields);
    }

    /// Logs a line about an execution of which only the id is at hand; its trace is told where it can be read.
    pub(crate) async fn report_of_id(
        &self,
        level: Level,
        id: ExecutionId,
        message: &str,
        fields: Fields<'_>,
    ) {
        match self.store.get(id).await {
            Ok(Some(execution)) => self.report_of(level, &execution, message, fields),
            _ => self.write_line(level, message, None, Some(id), fields),
        }
    }

    fn write_line(
        &self,
        level: Level,
        message: &str,
        trace: Option<TraceContext>,
        execution: Option<ExecutionId>,
        fields: Fields<'_>,
    ) {
        let level = level.as_str();
        let span = format!("{:016x}", self.span());
        let trace = trace.map(|trace| format!("{:032x}", trace.trace));
        let mut all: Vec<(&str, &dyn Display)> = vec![("level", &level), ("span_id", &span)];
        if self.is_tick.get() {
            // A tick's name in the lease is its span.
            all.push(("tick", &span));
        }
        if let Some(trace) = &trace {
            all.push(("trace_id", trace));
        }
        if let Some(execution) = &execution {
            all.push(("executionId", execution));
        }
        all.extend(fields);
        self.runtime.log(message, &all);
    }
}
