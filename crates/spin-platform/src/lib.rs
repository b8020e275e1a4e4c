//! spin-platform.
