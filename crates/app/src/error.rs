//! What can go wrong in a use case, apart from what its answer says.

use kubernetes::Error as KubernetesError;
use store::StoreError;

/// A use case could not be carried out. Nothing is lost by it: what was stored before stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not do it.
    #[error("the store did not answer as it should")]
    Store(#[from] StoreError),
    /// The API server did not do it.
    #[error("the Kubernetes API server did not answer as it should")]
    Kubernetes(#[from] KubernetesError),
    /// Another writer changed the record again and again.
    #[error("the record changed under every attempt to write it")]
    Contended,
}

impl Error {
    /// Whether the same call may well succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Kubernetes(error) => error.is_retryable(),
            Self::Contended => true,
        }
    }

    /// The error with all its sources, for the operator's log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}
