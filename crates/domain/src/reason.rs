//! Outcomes, the closed set of reasons, and what each says about fault and retrying.

/// How an execution ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0, read from the container's own status.
    Succeeded,
    /// The script ran, and it was the script.
    Failed,
    /// It could not be run, or nobody can know.
    Error,
    /// The caller asked, and the pod is confirmed gone.
    Canceled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Error, Self::Canceled];

    /// The name in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Error => "ERROR",
            Self::Canceled => "CANCELED",
        }
    }

    /// The outcome of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.as_str() == name)
    }
}

/// Whose doing a bad ending was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The script's own.
    Script,
    /// What was asked for cannot work.
    Request,
    /// The cluster's: its nodes, quotas, policies, or somebody working on it.
    Cluster,
    /// Executor's.
    Platform,
}

impl Fault {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Request => "request",
            Self::Cluster => "cluster",
            Self::Platform => "platform",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $outcome:ident, $fault:expr, $retryable:literal;)*) => {
        /// Why it ended so: a closed set, extended on purpose only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in the API and in the store.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The one outcome that this reason goes with.
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome,)* }
            }

            /// Whose doing it was; none for a good end and for what the caller asked for.
            pub const fn fault(self) -> Option<Fault> {
                match self { $(Self::$name => $fault,)* }
            }

            /// Whether the same request may well end otherwise, with no danger of running twice.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }
        }
    };
}

reasons! {
    /// The script ended with exit code 0.
    Completed => Succeeded, None, false;
    /// The script ended with another exit code.
    NonZeroExit => Failed, Some(Fault::Script), false;
    /// The container went over its memory limit and was killed.
    OOMKilled => Failed, Some(Fault::Script), false;
    /// The script was ended by a signal, or exited with that signal's code.
    Signaled => Failed, Some(Fault::Script), false;
    /// The run clock ran out.
    RunTimeout => Failed, Some(Fault::Script), false;
    /// The pod went over its limit of ephemeral storage.
    EphemeralStorageExceeded => Failed, Some(Fault::Script), false;
    /// The image could not be had until the start clock ran out, or its name is no image name.
    ImageUnavailable => Error, Some(Fault::Request), false;
    /// No node could take the pod until the start clock ran out.
    Unschedulable => Error, Some(Fault::Cluster), true;
    /// The cluster refuses what was asked for as invalid.
    InvalidSpec => Error, Some(Fault::Request), false;
    /// The namespace's quota left no room until the clock ran out.
    QuotaExceeded => Error, Some(Fault::Cluster), true;
    /// An admission policy of the cluster refuses it.
    AdmissionDenied => Error, Some(Fault::Cluster), false;
    /// The queue clock ran out.
    QueueTimeout => Error, Some(Fault::Cluster), true;
    /// The start clock ran out.
    StartTimeout => Error, Some(Fault::Cluster), true;
    /// The node evicted or stopped the pod.
    Evicted => Error, Some(Fault::Cluster), true;
    /// The node is gone; the script may still run there.
    NodeLost => Error, Some(Fault::Cluster), false;
    /// Somebody deleted the Job or its pod before its end was seen.
    JobDeleted => Error, Some(Fault::Cluster), false;
    /// What became of it cannot be known.
    Lost => Error, Some(Fault::Platform), false;
    /// The caller canceled it.
    CanceledByCaller => Canceled, None, false;
}

impl Reason {
    /// The reason of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.as_str() == name)
    }
}

/// How an execution ended, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why; carries outcome, fault and whether to retry.
    pub reason: Reason,
    /// What a person needs to know, one or two sentences.
    pub message: String,
    /// The container's exit code, 0 to 255, where it ran to an end.
    pub exit_code: Option<i32>,
    /// The number of the signal that ended it, where that is known or told by the exit code.
    pub signal: Option<i32>,
}

impl Ending {
    /// The outcome, as the reason has it.
    pub const fn outcome(&self) -> Outcome {
        self.reason.outcome()
    }
}
