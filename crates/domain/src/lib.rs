//! What an execution is and how it moves: states, outcomes, reasons, clocks. No I/O, no clock, no async.
//!
//! Everything here is a value. [`transition`](transition::transition) is the one place where an
//! execution changes: it takes the execution, an [`Observation`] and the time, and gives the next one.

pub mod audit;
pub mod caller;
pub mod execution;
pub mod quantity;
pub mod reason;
pub mod retry;
pub mod submission;
pub mod timeline;
pub mod trace;
pub mod transition;

pub use audit::{Action, Origin};
pub use caller::{
    Limits, MAX_NAMESPACE_CHARS, MAX_TENANT_CHARS, Namespace, NoNamespace, NoTenant, Role, Tenant,
};
pub use execution::{
    Clock, Execution, ExecutionId, LogSummary, Status, Stop, Waiting, WaitingKind,
};
pub use quantity::Quantity;
pub use reason::{Ending, Fault, Outcome, Reason};
pub use retry::{About, AttemptRecord, Relevance, Retry, next_attempt};
pub use submission::{Resources, Submission, Timeouts, Webhook};
pub use timeline::Entry;
pub use trace::TraceContext;
pub use transition::{ContainerEnd, Observation, transition};
