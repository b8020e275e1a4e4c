//! Kubernetes requests and answers as values: the Job of an execution, and what Jobs and Pods say about it.
//!
//! Nothing here opens a socket: [`Client`] builds each request, gives it to a [`Transport`], and reads the
//! answer within named limits. Requests are built with k8s-openapi's types; of answers only those fields
//! are read that Executor looks at, which keeps components small and watching cheap.

mod body;
mod client;
mod config;
mod error;
mod event;
mod expansion;
#[cfg(test)]
mod fake;
mod job;
mod job_status;
mod log;
mod pod;
mod rules;
mod transport;
mod verb;
mod watch;
mod wire;

pub use client::{Client, MANAGED_SELECTOR, Page, Propagation};
pub use config::{ClientConfig, ReadFile};
pub use error::{Cause, Error};
pub use event::{EventObservation, JobEvent, REPORTER};
pub use job::{
    ANNOTATION_SPEC_DIGEST, CONTAINER_NAME, ENV_ATTEMPT, ENV_ID, INLINE_SCRIPT_LIMIT_BYTES,
    LABEL_ATTEMPT, LABEL_EXECUTION, LABEL_MANAGED_BY, MANAGED_BY, Payload, RunSpec, SecretKey,
    payload, placeholder,
};
pub use job_status::{Condition, JobObservation};
pub use log::{LogOptions, LogStream};
pub use pod::{PodObservation, Terminated, Waiting};
pub use rules::{PodProfile, PodRules};
pub use transport::{Body, Timeouts, Transport, TransportError};
pub use verb::verb;
pub use watch::{Observed, WatchEvent, WatchStream};

/// The Job and ConfigMap types that [`payload`] makes and [`Client`] creates.
pub use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

/// A taint that pods put up with, in [`PodRules`].
pub use k8s_openapi::api::core::v1::Toleration;
