//! The PostgreSQL of `tests/postgres/with-postgres.sh`: a database for each stack, and a server that can be killed, with a standby or
//! without.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};

use crate::network::Network;
use crate::settings::authority;
use crate::wait::wait_for;

/// A killed server's memory is given back, and a started one has recovered: seconds at most, on two busy cores more.
const CHANGES_WITHIN: Duration = Duration::from_secs(60);

/// A PostgreSQL server of the tests' own.
pub struct Postgres {
    url: String,
    /// Where another follows it, that one's URL.
    standby: Option<String>,
    pid_file: PathBuf,
    start: PathBuf,
    /// The server, where it was started here.
    child: Mutex<Option<Child>>,
}

impl Postgres {
    /// The server that `with-postgres.sh` has told of.
    ///
    /// # Panics
    /// When it told of none.
    pub fn from_env() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set: run this by tests/postgres/with-postgres.sh")
            })
        };
        Self {
            url: variable("EXECUTOR_TEST_POSTGRES"),
            standby: std::env::var("EXECUTOR_TEST_POSTGRES_STANDBY").ok(),
            pid_file: variable("EXECUTOR_TEST_POSTGRES_PID_FILE").into(),
            start: variable("EXECUTOR_TEST_POSTGRES_START").into(),
            child: Mutex::new(None),
        }
    }

    /// Its `host:port`.
    pub fn authority(&self) -> &str {
        without_user(&self.url)
    }

    /// The URL of the standby, if there is one.
    pub fn standby(&self) -> Option<&str> {
        self.standby.as_deref()
    }

    /// The variables by which Executor has this database: the URL, which names the standby as well if there is one, and the hosts
    /// that it may reach. With a network, the way there is through that, and past the standby.
    pub(crate) fn variables(&self, url: &str, network: Option<&Network>) -> [(String, String); 2] {
        let (url, hosts) = match (network, &self.standby) {
            (Some(network), _) => {
                let address = network.address().to_string();
                (url.replace(self.authority(), &address), address)
            }
            (None, Some(standby)) => {
                let both = format!("{},{}", self.authority(), without_user(standby));
                let url = url.replace(self.authority(), &both);
                // One pattern has to be of both, and is of one host name.
                let hosts = "127.0.0.1:*".to_owned();
                (format!("{url}?target_session_attrs=read-write"), hosts)
            }
            (None, None) => (url.to_owned(), self.authority().to_owned()),
        };
        [
            ("database_url".to_owned(), url),
            ("database_hosts".to_owned(), format!("postgres://{hosts}")),
        ]
    }

    /// Makes a database and gives its URL.
    ///
    /// # Panics
    /// When the server does not.
    pub fn new_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("executor_e2e_{}_{number}", std::process::id());
        let mut client = Client::connect(&self.url, NoTls).expect("the PostgreSQL server answers");
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("a database can be made");
        let (server, _) = self.url.rsplit_once('/').expect("a URL with a database");
        format!("{server}/{name}")
    }

    /// Gives the database of that URL to a user who has to show that password, as no other has, and ends the user's connections;
    /// answers the URL with both. All databases that are sealed have the same one.
    ///
    /// # Panics
    /// When the server does not.
    pub(crate) fn seal(&self, url: &str, password: &str) -> String {
        let (_, name) = url.rsplit_once('/').expect("a URL with a database");
        let mut client = Client::connect(&self.url, NoTls).expect("the PostgreSQL server answers");
        let sql = format!(
            "DO $$ BEGIN CREATE ROLE sealed LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
             ALTER ROLE sealed PASSWORD '{password}';
             ALTER DATABASE {name} OWNER TO sealed;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sealed'"
        );
        client.batch_execute(&sql).expect("it changes the password");
        let host = self.authority();
        format!("postgres://sealed:{password}@{host}/{name}")
    }

    /// Whether the server answers.
    pub fn answers(&self) -> bool {
        Client::connect(&self.url, NoTls).is_ok()
    }

    /// Kills the server with all its processes at once, as a crash of its machine would, and waits until they are gone.
    ///
    /// # Panics
    /// When it is not running, or does not go.
    pub fn kill(&self) {
        let text = std::fs::read_to_string(&self.pid_file).expect("a running server's file");
        let pid: i32 = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok())
            .expect("a process id in its first line");
        // Stopped first, so that it has no more children afterwards.
        signal(pid, Signal::STOP);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .expect("a kernel that tells of children");
        let children = children.split_whitespace().filter_map(|p| p.parse().ok());
        let mut all: Vec<i32> = children.collect();
        all.push(pid);
        for pid in &all {
            signal(*pid, Signal::KILL);
        }
        if let Some(mut child) = self.child.lock().expect("nobody panics").take() {
            child.wait().expect("a child can be waited for");
        }
        wait_for("the end of PostgreSQL", CHANGES_WITHIN, || {
            all.iter().all(|pid| is_gone(*pid)).then_some(())
        });
        assert!(!self.answers(), "PostgreSQL answers after its end");
    }

    /// Starts the killed server again, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&self) {
        let child = Command::new(&self.start)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.start.display()));
        *self.child.lock().expect("nobody panics") = Some(child);
        wait_for("PostgreSQL", CHANGES_WITHIN, || {
            self.answers().then_some(())
        });
    }

    /// Has the standby take over, and waits until it takes writes.
    ///
    /// # Panics
    /// When there is none, when it has taken over already, or when it does not.
    pub fn promote_standby(&self) {
        let url = self.standby().expect("a standby");
        let mut client = Client::connect(url, NoTls).expect("the standby answers");
        let mut ask = |sql: String| -> bool {
            let row = client.query_one(&sql, &[]).expect("the standby answers");
            row.get(0)
        };
        let only_reads = "SELECT pg_is_in_recovery()";
        assert!(ask(only_reads.to_owned()), "the standby is none");
        let seconds = CHANGES_WITHIN.as_secs();
        let taken = ask(format!("SELECT pg_promote(true, {seconds})"));
        assert!(taken && !ask(only_reads.to_owned()), "it did not take over");
    }
}

/// The `host:port` of a URL.
fn without_user(url: &str) -> &str {
    let authority = authority(url);
    authority.rsplit_once('@').map_or(authority, |(_, at)| at)
}

fn signal(pid: i32, signal: Signal) {
    // What is gone already needs no signal.
    let _ = kill_process(
        Pid::from_raw(pid).expect("process ids are positive"),
        signal,
    );
}

/// Gone, or dead and not yet asked about by its parent.
fn is_gone(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("Z (zombie)")
}
