//! Tests of the API; the files mirror the routes.

mod chance;
mod submission;
