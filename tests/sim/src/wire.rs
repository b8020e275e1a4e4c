//! The network between an instance and the API server: a request under way outlives its sender.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kubernetes::{Body, Timeouts, Transport, TransportError};
use localcluster::logs::{LogCursor, LogPoll};
use localcluster::{Request, WatchCursor};
use serde_json::Value;

use crate::faults::refusal;
use crate::mutant::Mutant;
use crate::pages;
use crate::platform::Instance;
use crate::receiver::receive;
use crate::world::{Event, NAMESPACE, OWN_NAMESPACE, World, collection};

/// A request is carried out within so many milliseconds of being sent, or never.
const LATEST_ARRIVAL_MS: i64 = 9_000;

/// The same of a request for a Job, the one that does harm when it comes late: as TCP delivers it after an outage, when
/// its execution may long be over.
const LATEST_CREATION_MS: i64 = 120_000;

/// A round trip in a quiet world, each way, in milliseconds.
const QUIET_DELAY_MS: i64 = 1;

/// The longest a request or its answer takes by chance where nothing is wrong, in milliseconds.
const JITTER_MS: i64 = 20;

/// The annotation with the digest of what was asked for.
const DIGEST: &str = "executor.dev/spec-digest";

/// A request under way.
pub struct Message {
    who: String,
    what: String,
    request: Request,
    /// Answered instead of carrying it out.
    refuse: Option<(u16, Value)>,
    /// Carried out, though it may be refused too.
    effective: bool,
    /// Where the answer goes, if anywhere, and after how many milliseconds.
    reply: Option<(Rc<Slot>, i64)>,
}

/// Where an answer arrives.
#[derive(Default)]
struct Slot {
    answer: RefCell<Option<localcluster::Response>>,
    ready_at: Cell<i64>,
    waker: RefCell<Option<Waker>>,
}

/// Sends into the world's cluster.
pub struct Wire {
    /// Where.
    pub world: Rc<World>,
    /// By whom.
    pub instance: Rc<Instance>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    NotSent,
    Vanished,
    Lost,
    Late,
    Twice,
    Refused,
    Slow,
}

impl Transport for Wire {
    type Body = WireBody;

    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        timeouts: Timeouts,
    ) -> Result<http::Response<WireBody>, TransportError> {
        let world = &self.world;
        if request.uri().host() != Some("cluster") {
            let status = receive(world, &self.instance.name, request).await?;
            return Ok(self.response(status, Source::Bytes(None)));
        }
        let what = describe(&request);
        let request = self.translated(&what, request);
        if let Some(counted) = world.counted.borrow_mut().as_mut() {
            counted.push(what.clone());
        }
        let fate = self.fate(&what);
        let target = request.path.rsplit('/').next().unwrap_or_default();
        let who = &self.instance.name;
        world.note(&format!(
            "{who} sends {what} {} {fate:?}",
            crate::rows::short(target)
        ));
        let give_up = i64::try_from(timeouts.first_byte.as_millis()).unwrap_or(i64::MAX / 2);
        let slot = Rc::new(Slot::default());
        let give_up = world.now() + self.dispatch(fate, what, request, &slot, give_up);
        if fate == Fate::NotSent {
            world.sleep(give_up - world.now()).await;
            return Err(TransportError::NotSent("made up".to_owned()));
        }
        let Some(answer) = self.answer(&slot, give_up).await else {
            return Err(TransportError::Unknown(format!("made up: {fate:?}")));
        };
        let source = match answer.body {
            localcluster::Body::Bytes(bytes) => Source::Bytes(Some(bytes.into())),
            localcluster::Body::Watch(cursor) => Source::Watch(cursor),
            localcluster::Body::Log(cursor) => Source::Log(cursor),
        };
        Ok(self.response(answer.status, source))
    }
}

impl Wire {
    fn response(&self, status: u16, source: Source) -> http::Response<WireBody> {
        let response = http::Response::builder().status(status);
        let body = WireBody {
            world: self.world.clone(),
            instance: self.instance.clone(),
            source,
            parked_until: 0,
        };
        response.body(body).expect("a status code")
    }

    fn fate(&self, what: &str) -> Fate {
        let world = &self.world;
        let away = world.api_away.get();
        if away.until > world.now() {
            return if away.silent {
                Fate::Vanished
            } else {
                Fate::NotSent
            };
        }
        let faults = world.faults.borrow();
        let mut chance = world.chance.borrow_mut();
        let reads = what.starts_with("GET") || what.starts_with("LIST") || what == "WATCH pods";
        // RFC 9110, 9.2.2: nobody between us repeats what is not idempotent.
        let repeats = !what.starts_with("POST");
        for (rate, fate) in [
            (faults.not_sent, Fate::NotSent),
            (faults.vanished, Fate::Vanished),
            (faults.lost, Fate::Lost),
            (if reads { 0 } else { faults.late }, Fate::Late),
            (
                if repeats && !reads { faults.twice } else { 0 },
                Fate::Twice,
            ),
            (faults.refused, Fate::Refused),
            (faults.slow, Fate::Slow),
        ] {
            if chance.per_mille(rate) {
                return fate;
            }
        }
        Fate::Fine
    }

    /// Puts the request on its way; answers after how many milliseconds its sender gives up.
    fn dispatch(
        &self,
        fate: Fate,
        what: String,
        mut request: Request,
        slot: &Rc<Slot>,
        patience: i64,
    ) -> i64 {
        let world = &self.world;
        let page_ms = pages::shorten(world, &mut request);
        let forgotten = pages::forgotten(world, &self.instance, &request);
        let mut chance = world.chance.borrow_mut();
        let jitter = world.faults.borrow().jitter;
        let mut delay = |slow: bool| match (slow, jitter) {
            (true, _) => chance.between(100, LATEST_ARRIVAL_MS / 2),
            (_, true) => chance.between(0, JITTER_MS),
            _ => QUIET_DELAY_MS,
        };
        let (there, back) = (
            delay(fate == Fate::Slow) + page_ms,
            delay(fate == Fate::Slow),
        );
        let refuse = (fate == Fate::Refused).then(|| refusal(&mut chance, &what));
        let refuse = refuse.or(forgotten);
        let mut message = Message {
            who: self.instance.name.clone(),
            what,
            request,
            effective: refuse.as_ref().is_none_or(|(.., also)| *also),
            refuse: refuse.map(|(code, status, _)| (code, status)),
            reply: Some((slot.clone(), back)),
        };
        let now = world.now();
        let resets = chance.per_mille(500);
        let gives_up = if resets {
            there + back + chance.between(0, 200)
        } else {
            patience
        };
        match fate {
            Fate::NotSent | Fate::Vanished => return gives_up,
            Fate::Lost => message.reply = None,
            Fate::Late => {
                let latest = if message.what == "POST jobs" && chance.per_mille(500) {
                    LATEST_CREATION_MS
                } else {
                    LATEST_ARRIVAL_MS
                };
                let latest = chance.between(gives_up, latest.max(gives_up));
                message.reply = None;
                world.schedule(now + latest, Event::Arrive(Rc::new(message)));
                return gives_up;
            }
            _ => {}
        }
        let lost = message.reply.is_none();
        let message = Rc::new(message);
        world.schedule(now + there, Event::Arrive(message.clone()));
        if fate == Fate::Twice {
            let again = chance.between(there, LATEST_ARRIVAL_MS);
            world.schedule(now + again, Event::Arrive(message));
        }
        if lost { gives_up } else { patience }
    }

    async fn answer(&self, slot: &Slot, give_up: i64) -> Option<localcluster::Response> {
        let world = &self.world;
        let mut waits = false;
        poll_fn(|context| {
            if slot.answer.borrow().is_some() && world.now() >= slot.ready_at.get() {
                return Poll::Ready(slot.answer.take());
            }
            if world.now() >= give_up {
                return Poll::Ready(None);
            }
            slot.waker.replace(Some(context.waker().clone()));
            if !std::mem::replace(&mut waits, true) {
                world.schedule(give_up, Event::Wake(context.waker().clone()));
            }
            Poll::Pending
        })
        .await
    }

    /// The request as the cluster takes it, with the mistakes that are made on purpose.
    fn translated(&self, what: &str, request: http::Request<Vec<u8>>) -> Request {
        let (head, mut body) = request.into_parts();
        let mutant = self.world.mutant;
        if let Ok(mut value) = serde_json::from_slice::<Value>(&body) {
            match (mutant, what) {
                (Some(Mutant::NoUidPrecondition), "DELETE jobs") => {
                    value["preconditions"] = Value::Null;
                }
                (Some(Mutant::OrphanedPods), "DELETE jobs") => {
                    value["propagationPolicy"] = "Orphan".into();
                }
                _ => {}
            }
            if what == "POST jobs" {
                self.simulate(&mut value);
            }
            body = value.to_string().into_bytes();
        }
        let content_type = head
            .headers
            .get("content-type")
            .and_then(|v| v.to_str().ok());
        let target = head.uri.path_and_query().map_or("/", |t| t.as_str());
        let request = Request::new(head.method.as_str(), target, content_type, body);
        if mutant == Some(Mutant::DeletedBeforeLogRead) && what == "GET log" {
            let pod = request.path.rsplit('/').nth(1).unwrap_or_default();
            let job = pod.rsplit_once('-').map_or("", |(job, _)| job);
            let background = serde_json::json!({"propagationPolicy": "Background"});
            for namespace in [NAMESPACE, OWN_NAMESPACE] {
                let target = format!("{}/{job}", collection(namespace, "jobs"));
                self.world.ask("DELETE", &target, &background);
            }
        }
        request
    }

    /// Says in the pod's template what its script will do.
    fn simulate(&self, job: &mut Value) {
        let scripts = self.world.scripts.borrow();
        let digest = job["metadata"]["annotations"][DIGEST].as_str();
        if let Some(script) = digest.and_then(|digest| scripts.get(digest)) {
            job["spec"]["template"]["metadata"]["annotations"]["localcluster/simulate"] =
                script.annotation().to_string().into();
        }
    }
}

/// The request has reached the API server.
pub fn arrive(world: &World, message: &Message) {
    let away = world.api_away.get();
    if away.until > world.now() {
        world.note(&format!("{} of {} is lost", message.what, message.who));
        return;
    }
    let own = message
        .effective
        .then(|| carry_out(world, message))
        .inspect(|answer| {
            world.note(&format!(
                "{} of {} is carried out: {}",
                message.what, message.who, answer.status
            ));
        });
    let answer = match (&message.refuse, own) {
        (Some((code, status)), _) => localcluster::Response {
            status: *code,
            content_type: "application/json",
            warning: None,
            body: localcluster::Body::Bytes(status.to_string().into_bytes()),
        },
        (None, Some(own)) => own,
        (None, None) => return,
    };
    if let Some((slot, after)) = &message.reply {
        // The later answer of a request that was carried out twice is the one that arrives, if it is in time.
        slot.answer.replace(Some(answer));
        slot.ready_at.set(world.now() + after);
        if let Some(waker) = slot.waker.borrow().clone() {
            world.schedule(world.now() + after, Event::Wake(waker));
        }
    }
}

fn carry_out(world: &World, message: &Message) -> localcluster::Response {
    let deletes = message.what == "DELETE jobs";
    let uid = deletes.then(|| {
        let (_, job) = world.ask("GET", &message.request.path, &Value::Null);
        job["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    let mut answer = world.handle(&message.request);
    if world.mutant == Some(Mutant::DatabaseIgnored) && message.what == "LIST jobs" {
        pages::take_for_ours(world, &mut answer);
    }
    if let Some(uid) = uid
        && answer.status < 300
        && world.strangers.borrow().contains(&uid)
    {
        world.broken(format!("I7: {} deleted the Job of a stranger", message.who));
    }
    answer
}

/// What a request is, in two words.
fn describe(request: &http::Request<Vec<u8>>) -> String {
    let path: Vec<&str> = request.uri().path().split('/').collect();
    let query = request.uri().query().unwrap_or_default();
    let kinds = ["jobs", "pods", "configmaps", "secrets", "events"];
    let Some(at) = path.iter().position(|part| kinds.contains(part)) else {
        return format!("{} {}", request.method(), path[1]);
    };
    match (request.method().as_str(), path.len() - at - 1) {
        ("GET", 0) if query.contains("watch=") => format!("WATCH {}", path[at]),
        ("GET", 0) => format!("LIST {}", path[at]),
        ("GET", 2) => "GET log".to_owned(),
        (method, _) => format!("{method} {}", path[at]),
    }
}

enum Source {
    Broken,
    Bytes(Option<Bytes>),
    Watch(Box<WatchCursor>),
    Log(Box<LogCursor>),
}

/// The body of an answer, live where it is a watch.
pub struct WireBody {
    world: Rc<World>,
    instance: Rc<Instance>,
    source: Source,
    parked_until: i64,
}

impl WireBody {
    fn poll_piece(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.source {
            Source::Broken => return Poll::Ready(None),
            Source::Bytes(bytes) => return Poll::Ready(bytes.take()),
            Source::Log(cursor) => match cursor.poll().expect("a log in memory") {
                LogPoll::Data(bytes) => return Poll::Ready(Some(bytes.into())),
                LogPoll::End => return Poll::Ready(None),
                LogPoll::Wait => {}
            },
            Source::Watch(cursor) => {
                let poll = self.world.poll_watch(cursor);
                let frames = poll.frames();
                if poll.done {
                    let last = (!frames.is_empty()).then(|| frames.into());
                    self.source = Source::Bytes(None);
                    return Poll::Ready(last);
                }
                if !frames.is_empty() {
                    return Poll::Ready(Some(frames.into()));
                }
                let next = self.world.millis(poll.next) + 1;
                self.park(next, context);
            }
        }
        self.world.watch(context);
        Poll::Pending
    }

    fn park(&mut self, until: i64, context: &Context<'_>) {
        if std::mem::replace(&mut self.parked_until, until) != until {
            self.world
                .schedule(until, Event::Wake(context.waker().clone()));
        }
    }
}

impl Body for WireBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        let piece = poll_fn(|context| {
            let away = self.world.api_away.get();
            if away.until > self.world.now() {
                if !away.silent {
                    return Poll::Ready(Err(()));
                }
                self.park(away.until, context);
                return Poll::Pending;
            }
            self.poll_piece(context).map(Ok)
        })
        .await;
        let broken = |how: &str| Err(TransportError::Unknown(format!("made up: {how}")));
        if matches!(self.source, Source::Broken) {
            return broken("broken off");
        }
        let Ok(piece) = piece else {
            self.source = Source::Broken;
            return broken("the API server went away");
        };
        let world = &self.world;
        let cut = world.faults.borrow().cut;
        if world.chance.borrow_mut().per_mille(cut) {
            world.note(&format!("{}'s answer breaks off", self.instance.name));
            self.source = Source::Broken;
            return match piece {
                Some(bytes) if bytes.len() > 1 && world.chance.borrow_mut().per_mille(500) => {
                    Ok(Some(bytes.slice(..bytes.len() / 2)))
                }
                _ => broken("broken off"),
            };
        }
        if world.mutant == Some(Mutant::VersionKeptAfterFailure)
            && matches!(self.source, Source::Watch(_))
            && let Some(bytes) = &piece
        {
            self.keep_version(bytes);
        }
        Ok(piece)
    }
}

impl WireBody {
    /// Stores the newest resourceVersion that a watch has shown, before anything is done about what it tells.
    fn keep_version(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let versions = text.lines().filter_map(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            event["object"]["metadata"]["resourceVersion"]
                .as_str()?
                .parse::<u64>()
                .ok()
        });
        if let Some(newest) = versions.max() {
            let keep = "INSERT INTO state (name, value) VALUES ('podsResourceVersion', ?1) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            let connection = self.world.sqlite.connection();
            connection
                .execute(keep, [newest.to_string()])
                .expect("the version is stored");
        }
    }
}
