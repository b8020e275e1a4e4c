//! What callers ask for, each by an instance of its own: submissions, cancels, deletions; and the ticks.

use std::time::Duration;

use app::{Caller, Canceled, Submitted, SubmittedBatch};
use domain::Submission;
use store::BatchKey;

use crate::driver::Driver;
use crate::platform::app;

/// What the batch's key stands for.
const BATCH_DIGEST: &str = "ba7c4";

impl Driver {
    /// The instance that answers a POST: stores it, answers, goes on with the Job.
    pub fn submit(&mut self, number: usize, host: usize) {
        if !self.up[host] {
            return;
        }
        let instance = self.instance("post", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let planned = &self.plan.submissions[number];
        let (submission, key) = (planned.submission.clone(), planned.key.clone());
        let (world, accepted) = (self.world.clone(), self.accepted.clone());
        let name = instance.name.clone();
        self.spawn(instance, async move {
            let answer = app
                .submit(&Caller::local(), &submission, key.as_deref())
                .await;
            let (id, new) = match &answer {
                Ok(Submitted::New { execution, .. }) => (execution.id, Some(execution)),
                Ok(Submitted::Replayed(execution)) => (execution.id, None),
                Ok(Submitted::Conflict(id)) => {
                    world.broken(format!("I6: {id} is said to be another request"));
                    return;
                }
                Ok(Submitted::QueueFull | Submitted::Limited(_)) => {
                    world.broken("I11: a short queue is said to be full".to_owned());
                    return;
                }
                Err(error) => {
                    world.note(&format!("{name} answers 503: {}", error.chain()));
                    return;
                }
            };
            let is_new = new.is_some();
            world.note(&format!("{name} answers {id} to {number}, new {is_new}"));
            let answer = (world.now(), id.to_string());
            accepted
                .borrow_mut()
                .entry(number)
                .or_default()
                .push(answer);
            if let Some(execution) = new {
                app.dispatch_submitted(execution, &submission).await;
            }
        });
    }

    /// The same for the batch.
    pub fn submit_batch(&mut self, host: usize) {
        if !self.up[host] {
            return;
        }
        let instance = self.instance("batch", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let (first, key) = (self.plan.batch_from, self.plan.batch_key);
        let batch = &self.plan.submissions[first..];
        let batch: Vec<Submission> = batch.iter().map(|p| p.submission.clone()).collect();
        let (world, accepted) = (self.world.clone(), self.accepted.clone());
        let name = instance.name.clone();
        self.spawn(instance, async move {
            let key = key.map(|key| BatchKey {
                key,
                digest: BATCH_DIGEST,
            });
            let (ids, new) = match app.submit_batch(&Caller::local(), batch, key).await {
                Ok(SubmittedBatch::New(new)) => {
                    let ids = new.iter().map(|(e, _)| Some(e.id.to_string())).collect();
                    (ids, new)
                }
                Ok(SubmittedBatch::Replayed(replayed)) => {
                    let id = |e: domain::Execution| e.id.to_string();
                    let ids: Vec<_> = replayed.into_iter().map(|e| e.map(id)).collect();
                    (ids, Vec::new())
                }
                Ok(SubmittedBatch::Conflict(id)) => {
                    world.broken(format!("I6: {id} is said to be another request"));
                    return;
                }
                Ok(SubmittedBatch::QueueFull | SubmittedBatch::Limited(_)) => {
                    world.broken("I11: a short queue is said to be full".to_owned());
                    return;
                }
                Err(error) => {
                    world.note(&format!("{name} answers 503: {}", error.chain()));
                    return;
                }
            };
            world.note(&format!("{name} answers {ids:?}, new {}", !new.is_empty()));
            for (number, id) in (first..).zip(ids) {
                // None for those whose record is deleted.
                if let Some(id) = id {
                    let answer = (world.now(), id);
                    accepted
                        .borrow_mut()
                        .entry(number)
                        .or_default()
                        .push(answer);
                }
            }
            app.dispatch_accepted(&new).await;
        });
    }

    /// What the caller of that submission was told last, where that host can be asked.
    fn told_last(&self, number: usize, host: usize) -> Option<domain::ExecutionId> {
        let accepted = self.accepted.borrow();
        let (_, id) = accepted.get(&number)?.last()?;
        self.up[host].then(|| id.parse().expect("an id"))
    }

    /// The instance that answers a cancel: notes it, answers, carries it out.
    pub fn cancel(&mut self, number: usize, host: usize) {
        let Some(id) = self.told_last(number, host) else {
            return;
        };
        self.world.canceled.borrow_mut().insert(id.to_string());
        let instance = self.instance("cancel", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let (world, name) = (self.world.clone(), instance.name.clone());
        self.spawn(instance, async move {
            match app.cancel(&Caller::local(), id).await {
                Ok(Canceled::Accepted { to_carry_out, .. }) => {
                    world.note(&format!("{name} accepts the cancel of {id}"));
                    if to_carry_out {
                        app.carry_out_cancel(id).await;
                    }
                }
                Ok(other) => world.note(&format!("{name} answers {other:?}")),
                Err(error) => world.note(&format!("{name} answers 503: {}", error.chain())),
            }
        });
    }

    /// The instance that answers a DELETE.
    pub fn forget(&mut self, number: usize, host: usize) {
        let Some(id) = self.told_last(number, host) else {
            return;
        };
        self.world.forgettable.borrow_mut().insert(id.to_string());
        let instance = self.instance("delete", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let (world, name) = (self.world.clone(), instance.name.clone());
        self.spawn(instance, async move {
            match app.forget(&Caller::local(), id).await {
                Ok(answer) => world.note(&format!("{name} answers {answer:?}")),
                Err(error) => world.note(&format!("{name} answers 503: {}", error.chain())),
            }
        });
    }

    /// One tick of that many milliseconds.
    pub fn tick(&mut self, host: usize, budget_ms: i64) {
        let instance = self.instance("tick", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let budget = Duration::from_millis(budget_ms.unsigned_abs());
        let (world, name) = (self.world.clone(), instance.name.clone());
        self.spawn(instance, async move {
            match app.scheduled_tick(budget).await {
                Ok(report) => world.note(&format!("{name} ends: {report:?}")),
                Err(error) => world.note(&format!("{name} fails: {}", error.chain())),
            }
        });
    }
}
