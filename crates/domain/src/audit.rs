//! What callers did and were refused, as the audit log names it, and where they came from.

use std::net::IpAddr;

/// Something that a caller may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To submit an execution, alone or in a batch.
    ExecutionCreate,
    /// To list executions.
    ExecutionList,
    /// To see one.
    ExecutionGet,
    /// To cancel one.
    ExecutionCancel,
    /// To delete one that is finished.
    ExecutionDelete,
    /// To read the log of one.
    LogGet,
    /// To read the timeline of one.
    EventList,
    /// To see what became of a webhook.
    DeliveryList,
    /// To have it told once more.
    DeliveryCreate,
    /// To have a token made.
    TokenCreate,
    /// To list tokens.
    TokenList,
    /// To revoke one.
    TokenRevoke,
    /// To read the audit log.
    AuditList,
    /// To read metrics.
    MetricGet,
    /// To have a tick run.
    TickRun,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 15] = [
        Self::ExecutionCreate,
        Self::ExecutionList,
        Self::ExecutionGet,
        Self::ExecutionCancel,
        Self::ExecutionDelete,
        Self::LogGet,
        Self::EventList,
        Self::DeliveryList,
        Self::DeliveryCreate,
        Self::TokenCreate,
        Self::TokenList,
        Self::TokenRevoke,
        Self::AuditList,
        Self::MetricGet,
        Self::TickRun,
    ];

    /// The name in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExecutionCreate => "execution.create",
            Self::ExecutionList => "execution.list",
            Self::ExecutionGet => "execution.get",
            Self::ExecutionCancel => "execution.cancel",
            Self::ExecutionDelete => "execution.delete",
            Self::LogGet => "log.get",
            Self::EventList => "event.list",
            Self::DeliveryList => "delivery.list",
            Self::DeliveryCreate => "delivery.create",
            Self::TokenCreate => "token.create",
            Self::TokenList => "token.list",
            Self::TokenRevoke => "token.revoke",
            Self::AuditList => "audit.list",
            Self::MetricGet => "metric.get",
            Self::TickRun => "tick.run",
        }
    }

    /// The action of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// Who asked for something, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The id of the token, or its name where it is one of the settings; `local` where none is needed, none where none was valid.
    pub actor: Option<String>,
    /// What the maker of the token calls it, if that is not its id.
    pub name: Option<String>,
    /// The address that the request came from, as far as the host tells.
    pub address: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.as_str()), Some(action));
        }
        assert_eq!(Action::from_name("execution.think"), None);
    }
}
