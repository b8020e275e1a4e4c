//! Mistakes made on purpose, by altering what leaves the use cases: each must be caught.

use std::fmt;
use std::str::FromStr;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Status writes do not compare the generation, nor whether it is finished.
    NoCompareAndSet,
    /// Deletions have no uid for a precondition.
    NoUidPrecondition,
    /// Jobs are deleted without their pods and ConfigMaps.
    OrphanedPods,
    /// A tick whose lease was lost goes on.
    LostLeaseIgnored,
    /// The Job is deleted before its log is read.
    DeletedBeforeLogRead,
    /// A Job that may have been asked for before is created as if nobody had.
    AgainAsFirst,
    /// The resourceVersion is stored though what it stands for is not carried out yet, or failed.
    VersionKeptAfterFailure,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NoCompareAndSet,
        Self::NoUidPrecondition,
        Self::OrphanedPods,
        Self::LostLeaseIgnored,
        Self::DeletedBeforeLogRead,
        Self::AgainAsFirst,
        Self::VersionKeptAfterFailure,
    ];
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mutant| mutant.to_string() == text)
            .ok_or_else(|| format!("no such mutant; there are {:?}", Self::ALL))
    }
}
