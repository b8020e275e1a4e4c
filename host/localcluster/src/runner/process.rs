//! Pods as local processes: one supervisor for each container, which outlives this server and reports by files.
//!
//! Nothing here polls: supervisors report by renaming a file into one folder that inotify watches, and their own end is seen
//! through pidfds, both in one epoll.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process_log::ProcessLog;
use super::{Exit, News, PodStart, Runner, RunnerEvent};
use crate::logs::LogSource;
use crate::shim::claim::Claim;
use crate::shim::{Isolation, ShimSpec, Started, report_name, write_atomically};

/// The epoll key of the inotify descriptor; supervisors count from 1.
pub(super) const INOTIFY: u64 = 0;

/// The PATH of containers when the server itself has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What woke the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// [`Runner::poll`] has news.
    News,
    /// A followed log grew.
    Log,
}

/// Called from the runner's threads.
pub type WakeFn = Arc<dyn Fn(Wake) + Send + Sync>;

/// Runs pods as local processes below one folder.
pub struct ProcessRunner {
    shared: Arc<Shared>,
    work: Sender<Work>,
}

enum Work {
    Start(PodStart),
    Adopt(String, Vec<String>),
    Stop(String, u64),
    Forget(String),
}

pub(super) struct Supervisor {
    pub(super) uid: String,
    pub(super) container: String,
    pub(super) pid: i32,
    pub(super) child: Option<Child>,
    _pidfd: OwnedFd,
}

pub(super) struct Shared {
    pub(super) pods: PathBuf,
    status: PathBuf,
    isolation: Isolation,
    events: Mutex<Vec<RunnerEvent>>,
    pub(super) supervisors: Mutex<HashMap<u64, Supervisor>>,
    forgotten: Mutex<HashSet<String>>,
    pub(super) followed: Mutex<HashMap<WatchDescriptor, usize>>,
    next_id: AtomicU64,
    pub(super) epoll: Epoll,
    pub(super) inotify: Inotify,
    pub(super) status_watch: WatchDescriptor,
    pub(super) wake: WakeFn,
    program: PathBuf,
    pub(super) ended: Mutex<HashSet<(String, String)>>,
    verbose: AtomicBool,
    /// A log's file has at most so many bytes; 0 is no limit.
    pub(super) log_file_bytes: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tries which isolation works here, by running `program shim --probe` once for each.
pub fn probe(program: &Path, folder: &Path) -> Isolation {
    let works = |isolation: &str| {
        let status = Command::new(program)
            .args(["shim", "--probe", isolation])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if nix::unistd::geteuid().is_root() && works("namespaces") {
        Isolation::Namespaces
    } else if works("user-namespace") {
        Isolation::UserNamespace
    } else {
        Isolation::Rewrite
    }
}

impl ProcessRunner {
    /// Uses `folder` (absolute) for pods and reports; `program` is the `localcluster` binary, executed again as supervisor.
    pub fn new(
        folder: &Path,
        program: &Path,
        isolation: Isolation,
        wake: WakeFn,
    ) -> io::Result<Self> {
        let (pods, status) = (folder.join("pods"), folder.join("status"));
        fs::create_dir_all(&pods)?;
        fs::create_dir_all(&status)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let status_watch = inotify.add_watch(&status, AddWatchFlags::IN_MOVED_TO)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            inotify.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN, INOTIFY),
        )?;
        let shared = Arc::new(Shared {
            pods,
            status,
            isolation,
            events: Mutex::default(),
            supervisors: Mutex::default(),
            forgotten: Mutex::default(),
            followed: Mutex::default(),
            next_id: AtomicU64::new(1),
            epoll,
            inotify,
            status_watch,
            wake,
            program: program.to_owned(),
            ended: Mutex::default(),
            verbose: AtomicBool::new(true),
            log_file_bytes: AtomicU64::new(0),
        });
        let (work, queue) = channel();
        let watcher = shared.clone();
        std::thread::Builder::new()
            .name("supervisors".into())
            .spawn(move || watcher.watch())?;
        let worker = shared.clone();
        std::thread::Builder::new()
            .name("pod-starter".into())
            .spawn(move || worker.work(&queue))?;
        Ok(Self { shared, work })
    }

    fn send(&self, work: Work) {
        // The worker lives as long as this sender, so there is always somebody to take it.
        let _ = self.work.send(work);
    }

    /// From now on logs are rotated, as kubelets do at 10 MiB: of each only what was written since its length was last a
    /// multiple of that many bytes is read by who comes anew.
    pub fn rotate_logs(&self, file_bytes: u64) {
        self.shared
            .log_file_bytes
            .store(file_bytes, Ordering::Relaxed);
    }
}

impl Runner for ProcessRunner {
    fn start(&mut self, pod: PodStart, _now: Timestamp) {
        self.send(Work::Start(pod));
    }

    fn adopt(&mut self, uid: &str, containers: &[String]) -> bool {
        let folder = self.shared.pods.join(uid);
        let known = |container: &String| {
            Claim::read(&folder.join(container)).is_some()
                || self.shared.report_path(uid, container, "ended").exists()
        };
        if !containers.iter().all(known) {
            return false;
        }
        self.send(Work::Adopt(uid.to_owned(), containers.to_vec()));
        true
    }

    fn stop(&mut self, uid: &str, grace_seconds: u64, _now: Timestamp) {
        self.send(Work::Stop(uid.to_owned(), grace_seconds));
    }

    fn forget(&mut self, uid: &str) {
        self.send(Work::Forget(uid.to_owned()));
    }

    fn sweep(&mut self, keep: &HashSet<String>) {
        for entry in fs::read_dir(&self.shared.pods)
            .into_iter()
            .flatten()
            .flatten()
        {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if !keep.contains(&uid) {
                let containers = self.shared.containers(&uid);
                self.send(Work::Adopt(uid.clone(), containers));
                self.send(Work::Forget(uid));
            }
        }
    }

    fn poll(&mut self, _now: Timestamp) -> Vec<RunnerEvent> {
        std::mem::take(&mut *lock(&self.shared.events))
    }

    fn next_wake(&self) -> Option<Timestamp> {
        None
    }

    fn log(&self, uid: &str, container: &str) -> Option<Arc<dyn LogSource>> {
        let folder = self.shared.pods.join(uid).join(container);
        ProcessLog::open(self.shared.clone(), &folder, uid, container)
    }
}

impl Shared {
    pub(super) fn report_path(&self, uid: &str, container: &str, what: &str) -> PathBuf {
        self.status.join(report_name(uid, container, what))
    }

    fn containers(&self, uid: &str) -> Vec<String> {
        let folder = self.pods.join(uid);
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        entries
            .filter(|e| e.path().join("spec.json").exists())
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect()
    }

    pub(super) fn say(&self, uid: &str, container: &str, news: News) {
        if matches!(news, News::Ended(_))
            && !lock(&self.ended).insert((uid.to_owned(), container.to_owned()))
        {
            return;
        }
        lock(&self.events).push(RunnerEvent {
            uid: uid.to_owned(),
            container: container.to_owned(),
            news,
        });
        (self.wake)(Wake::News);
    }

    /// Passes on what a supervisor reported in this file.
    pub(super) fn read_report(&self, uid: &str, container: &str, what: &str) -> bool {
        let Ok(bytes) = fs::read(self.report_path(uid, container, what)) else {
            return false;
        };
        let news = match what {
            "started" => {
                serde_json::from_slice::<Started>(&bytes).map(|started| News::Started(started.at))
            }
            _ => serde_json::from_slice::<Exit>(&bytes).map(News::Ended),
        };
        match news {
            Ok(news) => self.say(uid, container, news),
            Err(error) => self.complain(&format!(
                "unreadable report {}: {error}",
                report_name(uid, container, what)
            )),
        }
        true
    }

    pub(super) fn complain(&self, text: &str) {
        if self.verbose.load(Ordering::Relaxed) {
            eprintln!("localcluster: {text}");
        }
    }

    fn work(self: &Arc<Self>, queue: &Receiver<Work>) {
        for work in queue {
            match work {
                Work::Start(pod) => {
                    for index in 0..pod.containers.len() {
                        self.start_container(&pod, index);
                    }
                }
                Work::Adopt(uid, containers) => containers
                    .iter()
                    .for_each(|container| self.adopt_container(&uid, container)),
                Work::Stop(uid, grace_seconds) => self.stop_pod(&uid, grace_seconds),
                Work::Forget(uid) => self.forget_pod(&uid),
            }
        }
    }

    fn start_container(self: &Arc<Self>, pod: &PodStart, index: usize) {
        let container = &pod.containers[index].name;
        let folder = self.pods.join(&pod.uid).join(container);
        if Claim::read(&folder).is_some() {
            return self.adopt_container(&pod.uid, container);
        }
        if let Err(error) = self
            .prepare(pod, index, &folder)
            .and_then(|()| self.spawn(&pod.uid, container, &folder))
        {
            let message = format!("error preparing the container: {error}");
            self.say(
                &pod.uid,
                container,
                News::Ended(lost("StartError", 128, &message)),
            );
        }
    }

    fn prepare(&self, pod: &PodStart, index: usize, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let volumes = self.pods.join(&pod.uid).join(".volumes");
        for volume in &pod.volumes {
            let base = volumes.join(&volume.name);
            fs::create_dir_all(&base)?;
            if volume.files.is_empty() {
                fs::set_permissions(&base, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
            }
            for file in &volume.files {
                let path = base.join(&file.path);
                fs::create_dir_all(path.parent().unwrap_or(&base))?;
                write_atomically(&path, &file.data)?;
                fs::set_permissions(
                    &path,
                    std::os::unix::fs::PermissionsExt::from_mode(file.mode),
                )?;
            }
        }
        for mount in pod.containers[index]
            .mounts
            .iter()
            .filter(|m| !m.sub_path.is_empty())
        {
            let path = volumes.join(&mount.volume).join(&mount.sub_path);
            if !path.exists() {
                fs::create_dir_all(path)?;
            }
        }
        let spec = ShimSpec {
            uid: pod.uid.clone(),
            hostname: pod.name.chars().take(63).collect(),
            container: pod.containers[index].clone(),
            volumes,
            status: self.status.clone(),
            deadline: pod.deadline,
            grace_seconds: pod.grace_seconds,
            isolation: self.isolation,
            path: std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned()),
        };
        write_atomically(&folder.join("spec.json"), &serde_json::to_vec(&spec)?)
    }

    fn spawn(&self, uid: &str, container: &str, folder: &Path) -> io::Result<()> {
        let errors = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("supervisor-errors"))?;
        let child = Command::new(&self.program)
            .arg("shim")
            .arg(folder)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()?;
        let pid = child.id() as i32;
        self.watch_process(uid, container, pid, Some(child))
    }

    fn watch_process(
        &self,
        uid: &str,
        container: &str,
        pid: i32,
        child: Option<Child>,
    ) -> io::Result<()> {
        let number =
            rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("process id 0"))?;
        let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut supervisors = lock(&self.supervisors);
        self.epoll.add(
            pidfd.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, id),
        )?;
        let supervisor = Supervisor {
            uid: uid.to_owned(),
            container: container.to_owned(),
            pid,
            child,
            _pidfd: pidfd,
        };
        supervisors.insert(id, supervisor);
        Ok(())
    }

    /// Takes over a container that was started before: by this server's predecessor, or by a supervisor that came first.
    pub(super) fn adopt_container(&self, uid: &str, container: &str) {
        let folder = self.pods.join(uid).join(container);
        // Its end may have been told already, to a server that had not come to this pod yet and made nothing of it.
        lock(&self.ended).remove(&(uid.to_owned(), container.to_owned()));
        let claim = Claim::read(&folder).filter(Claim::alive);
        let watched =
            claim.is_some_and(|claim| self.watch_process(uid, container, claim.pid, None).is_ok());
        self.read_report(uid, container, "started");
        let ended = self.read_report(uid, container, "ended");
        if !watched && !ended {
            self.say(
                uid,
                container,
                News::Ended(lost("ContainerStatusUnknown", 137, LOST)),
            );
        }
    }

    fn stop_pod(&self, uid: &str, grace_seconds: u64) {
        let running: Vec<(String, i32)> = lock(&self.supervisors)
            .values()
            .filter(|s| s.uid == uid)
            .map(|s| (s.container.clone(), s.pid))
            .collect();
        for (container, pid) in running {
            let file = self.pods.join(uid).join(&container).join("stop");
            if let Err(error) = write_atomically(&file, grace_seconds.to_string().as_bytes()) {
                self.complain(&format!("{}: {error}", file.display()));
            }
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Removes what is left of a pod, once its supervisors are gone.
    fn forget_pod(&self, uid: &str) {
        lock(&self.forgotten).insert(uid.to_owned());
        self.stop_pod(uid, 0);
        self.remove_if_over(uid);
    }

    pub(super) fn remove_if_over(&self, uid: &str) {
        if lock(&self.supervisors).values().any(|s| s.uid == uid)
            || !lock(&self.forgotten).remove(uid)
        {
            return;
        }
        let containers = self.containers(uid);
        let folder = self.pods.join(uid);
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.complain(&format!("{}: {error}", folder.display()));
        }
        // Last, since whoever follows a log knows its end by this or by the folder that is gone.
        for container in containers {
            let _ = fs::remove_file(self.report_path(uid, &container, "started"));
            let _ = fs::remove_file(self.report_path(uid, &container, "ended"));
        }
        lock(&self.ended).retain(|key| key.0 != uid);
    }
}

/// The kubelet's message for a container whose end nobody saw.
pub(super) const LOST: &str = "The container could not be located when the pod was terminated";

/// The end of a container that nobody reported.
pub(super) fn lost(reason: &str, code: i32, message: &str) -> Exit {
    let finished_at = Timestamp::now();
    Exit {
        code,
        reason: reason.into(),
        message: message.into(),
        started_at: None,
        finished_at,
        deadline_exceeded: false,
    }
}
