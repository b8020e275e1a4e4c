//! localcluster.
