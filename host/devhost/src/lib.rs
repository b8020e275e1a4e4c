//! devhost.
