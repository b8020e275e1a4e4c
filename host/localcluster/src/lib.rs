//! An embedded Kubernetes API for Jobs, Pods and their logs, whose pods are local processes or simulated.
//!
//! The core ([`Cluster`]) is synchronous and knows neither sockets nor the time of day: requests go in as values, answers come
//! out as values, and the clock is injected, so a simulator can drive it in-process with a seed. [`server`] is the thin shell
//! that puts it behind HTTP. What differs from a real cluster is listed in this folder's README.

pub mod api;
pub mod clock;
mod cluster;
mod disturb;
mod events;
mod gc;
pub mod ids;
mod job_controller;
pub mod logs;
mod object;
mod patch;
mod persist;
mod pod_lifecycle;
mod pod_spec;
mod pod_status;
pub mod resources;
pub mod runner;
mod selectors;
pub mod server;
pub mod shim;
mod status;
mod storage;
mod validate;
mod volumes;
mod watch;

pub use api::{Body, Request, Response};
pub use cluster::{Cluster, ClusterConfig};
pub use disturb::Disturbance;
pub use watch::{WatchCursor, WatchPoll};
