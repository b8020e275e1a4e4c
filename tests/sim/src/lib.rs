//! A simulator: the use cases and the store (a real SQLite) against the embedded cluster with simulated pods, in one
//! process, under a seeded scheduler, a virtual clock and faults. One seed makes one history, always the same.
//!
//! [`run`] plays the history of a seed and answers what broke. What must hold is in `checks`, what can go wrong
//! in `faults` and `plan`, and what the checks must notice when it is broken on purpose in [`Mutant`].

mod callers;
mod chance;
mod checks;
mod database;
mod driver;
mod faults;
mod harm;
mod history;
mod ledger;
mod mutant;
mod pages;
mod plan;
mod platform;
mod receiver;
mod rows;
mod wire;
mod world;

pub use driver::run;
pub use history::Report;
pub use mutant::Mutant;
