//! The harness of the black-box suites: it starts a cluster and a host, and speaks to them over HTTP only.
//!
//! - [`Stack`]: one Executor with its cluster, in a folder of its own, with ways to break it.
//! - [`Client`]: the API as a caller sees it. [`raw`]: bytes on a socket, for what no decent client sends.
//! - [`Kube`]: the API server as its administrator sees it, to check what Executor left there.
//! - [`Admin`]: a real cluster in the hands of whoever sets it up and breaks it. [`Network`]: one that can be cut. [`Tls`]: certificates that change.
//! - [`Ledger`]: where scripts write down that they ran, out of Executor's reach.
//! - [`batch`]: many submissions while things break, and what must be true of them. [`Postgres`]: a server that can be killed.
//! - [`corpus`]: scripts with what is expected of them, in `scripts/`.
//!
//! What is started is chosen by the environment:
//! - `EXECUTOR_E2E_HOST`: `devhost` (default) or `spin`.
//! - `EXECUTOR_E2E_CLUSTER`: `embedded` (default) or `real`, which reads `target/cluster/env`.
//! - `EXECUTOR_E2E_DATABASE`: `sqlite` (default), or `postgres` for a database of its own for each stack on the server of
//!   `tests/postgres/with-postgres.sh`.
//! - `EXECUTOR_DEVHOST`, `EXECUTOR_LOCALCLUSTER`: paths of the binaries, else those beside the tests.
//! - `EXECUTOR_E2E_SEED`: the seed of the random parts, which every run prints.
//! - `EXECUTOR_E2E_KEEP=1`: keep the folders of the stacks; those of failed tests are kept anyway.
//!
//! Nothing is skipped silently: what one kind of cluster cannot have is printed as "not applicable".

mod admin;
pub mod batch;
mod client;
pub mod corpus;
mod database;
mod expectation;
mod kube;
mod launch;
mod ledger;
mod network;
mod process;
pub mod raw;
mod settings;
mod stack;
mod tls;
mod wait;

pub use admin::{Admin, Namespace};
pub use client::{Answer, Client, RequestFailed};
pub use database::Postgres;
pub use kube::{Access, Kube};
pub use ledger::Ledger;
pub use network::Network;
pub use process::Process;
pub use settings::{ClusterKind, HostKind, RealCluster, top};
pub use stack::{Options, Shared, Stack, TICK_TOKEN};
pub use tls::Tls;
pub use wait::{Seed, not_applicable, poll, wait_for};
