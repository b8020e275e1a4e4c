//! Jobs as JSON.
