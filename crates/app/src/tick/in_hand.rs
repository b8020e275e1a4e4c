//! The pods whose news are being carried out: of each pod one after another.
//!
//! A pod that ends tells so several times within milliseconds (its container, its phase, its deletion). Carried out at once, each of
//! them would read the log, try to store the end and delete the Job; one after another, all but the first find it done.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use kubernetes::PodObservation;

use super::Tick;
use crate::Platform;

/// A pod's news: what it tells, and whether it is gone.
type News = (PodObservation, bool);

/// By the pods' uids: what came since somebody began with the first.
#[derive(Default)]
pub(super) struct InHand(RefCell<HashMap<String, VecDeque<News>>>);

/// Whoever carries out a pod's news. What comes meanwhile is theirs too.
struct Hand<'t, 'a, P: Platform> {
    tick: &'t Tick<'a, P>,
    uid: String,
}

impl<P: Platform> Tick<'_, P> {
    /// Carries out what a pod tells, or leaves it to whoever carries out what it told before.
    pub(super) async fn see(&self, pod: PodObservation, gone: bool) {
        let uid = pod.uid.clone();
        if let Some(news) = self.in_hand.0.borrow_mut().get_mut(&uid) {
            news.push_back((pod, gone));
            return;
        }
        let hand = Hand { tick: self, uid };
        let mut news = Some((pod, gone));
        hand.begin();
        while let Some((pod, gone)) = news {
            self.carry_out(pod, gone).await;
            news = hand.next();
        }
    }
}

impl<P: Platform> Hand<'_, '_, P> {
    fn begin(&self) {
        let mut pods = self.tick.in_hand.0.borrow_mut();
        pods.insert(self.uid.clone(), VecDeque::new());
    }

    fn next(&self) -> Option<News> {
        let mut pods = self.tick.in_hand.0.borrow_mut();
        pods.get_mut(&self.uid)?.pop_front()
    }
}

impl<P: Platform> Drop for Hand<'_, '_, P> {
    /// The tick may end in the middle: what came meanwhile is then for a list to tell.
    fn drop(&mut self) {
        let left = self.tick.in_hand.0.borrow_mut().remove(&self.uid);
        if let Some((pod, _)) = left.as_ref().and_then(VecDeque::front) {
            self.tick.miss_in(&pod.namespace);
        }
    }
}
