//! The audit log: noting who asked for what, and reading it.

use std::net::IpAddr;

use domain::{Action, ExecutionId, Origin};
use store::{AuditFilter, AuditRecord};

use crate::report::Level;
use crate::{App, Caller, Error, Platform, Runtime};

impl Caller {
    /// Who it is, as the audit log has it.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            actor: Some(self.name.clone()),
            name: self.title.clone(),
            address: self.from,
        }
    }
}

impl<P: Platform> App<P> {
    /// The record of something that a caller asks for and may do, for the write that does it.
    pub(crate) fn record(&self, caller: &Caller, action: Action, target: &str) -> AuditRecord {
        AuditRecord {
            origin: caller.origin(),
            tenant: Some(caller.tenant.clone()),
            target: Some(target.to_owned()),
            ..self.blank(action)
        }
    }

    fn blank(&self, action: Action) -> AuditRecord {
        let at = self.now();
        AuditRecord {
            id: ExecutionId::new(at, self.runtime.random()),
            at,
            origin: Origin::default(),
            tenant: None,
            action,
            target: None,
            problem: None,
            trace: self.request_trace(),
        }
    }

    /// Notes that something was refused for want of rights, to whom if that is known, by the kind of the problem that answers it: once a minute
    /// for each kind, and no more than [`MAX_REFUSALS_PER_MINUTE`](store::MAX_REFUSALS_PER_MINUTE). It is refused all the same where
    /// that cannot be stored.
    pub async fn note_refusal(
        &self,
        caller: Option<&Caller>,
        from: Option<IpAddr>,
        action: Action,
        target: Option<String>,
        problem: &str,
    ) {
        let record = AuditRecord {
            origin: Origin {
                address: from,
                ..caller.map(Caller::origin).unwrap_or_default()
            },
            tenant: caller.map(|caller| caller.tenant.clone()),
            target,
            problem: Some(problem.to_owned()),
            ..self.blank(action)
        };
        if let Err(error) = self.store.note_refusal(&record).await {
            let error = Error::from(error).chain();
            let message = "a refusal could not be noted in the audit log";
            self.report(Level::Warn, message, &[("error", &error)]);
        }
    }

    /// The records of the audit log, of all tenants, the newest first: at most `limit` that are older than that one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
        before: Option<ExecutionId>,
    ) -> Result<Vec<AuditRecord>, Error> {
        Ok(self.store.audit(filter, limit, before).await?)
    }
}
