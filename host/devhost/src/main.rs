//! devhost.
fn main() {}
