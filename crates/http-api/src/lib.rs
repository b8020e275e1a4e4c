//! http-api.
