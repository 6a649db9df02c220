//! The servers: the pair that all tests share, and private ones for tests that bounce them. `scripts/rig` starts both kinds.
//! Kafka itself is in [`super::kafka_server`].

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::kafka_server::KafkaServer;
use super::wait::wait_until;

/// The repository's folder.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How long a server may take to go away.
pub(super) const GONE_WITHIN: Duration = Duration::from_secs(30);

/// The pair that all tests share: started by the first test that asks, or by `make test` before.
pub(super) struct Shared {
    pub(super) kafka: Arc<KafkaServer>,
    postgres: Arc<PostgresServer>,
}

pub(super) static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    rig(&["start"]);
    let env = read_env(&Path::new(ROOT).join(".cache/rig/rig.env"));
    let dir = PathBuf::from(&env["RIG_DIR"]);
    Shared {
        kafka: Arc::new(KafkaServer::from_env(dir.clone(), &env, None)),
        postgres: Arc::new(PostgresServer::from_env(dir, &env, None)),
    }
});

/// One PostgreSQL cluster, on 127.0.0.1, with TLS. Its default collation is not "C". A private one ends with this value.
pub struct PostgresServer {
    /// Where it listens.
    pub port: u16,
    /// Of the superuser `postgres`.
    pub password: String,
    /// PEM file of the private CA.
    pub ca: PathBuf,
    /// The folder of PostgreSQL's programs.
    pub programs: PathBuf,
    dir: PathBuf,
    private: Option<TempDir>,
}

impl PostgresServer {
    /// The cluster that all tests share: not to be stopped.
    pub fn shared() -> Arc<Self> {
        SHARED.postgres.clone()
    }

    /// A cluster of a test's own.
    pub fn private() -> Arc<Self> {
        let folder = private_folder();
        let dir = folder.path().to_owned();
        rig(&["postgres", text(&dir)]);
        let env = read_env(&dir.join("postgres.env"));
        Arc::new(Self::from_env(dir, &env, Some(folder)))
    }

    /// Ends it as an administrator would (fast shutdown), and waits until it is gone.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// Ends it at once, as a crash: it recovers when it starts again.
    pub fn kill(&self) {
        self.end(Signal::QUIT);
    }

    /// Starts it again, on the same port with the same data, and waits until it takes connections.
    pub fn start(&self) {
        rig(&["postgres", text(&self.dir)]);
    }

    /// An asynchronous standby of it receives nothing from here on: its data are kept as they are now. It is down for a moment.
    pub fn fall_behind(&self) {
        self.stop();
        output(Command::new("cp").arg("-a").arg(self.data()).arg(self.standby()));
        self.start();
    }

    /// A standby that follows it, on a port of its own. It is down for a moment.
    pub fn follower(&self) -> Arc<Self> {
        let folder = private_folder();
        let dir = folder.path().to_owned();
        rig(&["postgres", text(&dir)]);
        let env = read_env(&dir.join("postgres.env"));
        let mut follower = Self::from_env(dir, &env, Some(folder));
        follower.password.clone_from(&self.password);
        follower.stop();
        self.stop();
        fs::remove_dir_all(follower.data()).expect("a private cluster is this test's own");
        output(Command::new("cp").arg("-a").arg(self.data()).arg(follower.data()));
        self.start();
        // Of whom the server runs as: a copy keeps it.
        output(
            Command::new("cp")
                .arg("-a")
                .arg(self.data().join("PG_VERSION"))
                .arg(follower.data().join("standby.signal")),
        );
        let settings = format!(
            "port = {}\nprimary_conninfo = 'host=127.0.0.1 port={} user=postgres password={}'\nwal_retrieve_retry_interval = '200ms'\n",
            follower.port, self.port, self.password
        );
        let mut file =
            fs::OpenOptions::new().append(true).open(follower.data().join("postgresql.conf")).expect("it was copied");
        file.write_all(settings.as_bytes()).expect("the disk has room");
        follower.start();
        Arc::new(follower)
    }

    /// Fails over to that standby, behind the same address: whatever was committed since is gone.
    pub fn promote(&self) {
        self.kill();
        fs::remove_dir_all(self.data()).expect("a private cluster is this test's own");
        fs::rename(self.standby(), self.data()).expect("it fell behind before");
        self.start();
    }

    fn data(&self) -> PathBuf {
        self.dir.join("postgres/data")
    }

    fn standby(&self) -> PathBuf {
        self.dir.join("postgres/standby")
    }

    /// Every process of it stands still, with its connections open.
    pub fn freeze(&self) {
        let mut processes = vec![self.pid()];
        processes.extend(children(self.pid()));
        freeze(&processes);
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("postgres.log")).unwrap_or_default()
    }

    fn end(&self, with: Signal) {
        assert!(
            self.private.is_some(),
            "the shared PostgreSQL is not to be ended; take Setting {{ own_postgres: true, .. }}"
        );
        let pid = self.pid();
        signal(pid, with);
        wait_until("PostgreSQL is gone", GONE_WITHIN, || !alive(pid));
    }

    fn signal_all(&self, with: Signal) {
        let postmaster = self.pid();
        signal(postmaster, with);
        for child in children(postmaster) {
            signal(child, with);
        }
    }

    fn pid(&self) -> u32 {
        read_pid(&self.dir.join("postgres.pid"))
    }

    fn from_env(dir: PathBuf, env: &HashMap<String, String>, private: Option<TempDir>) -> Self {
        Self {
            port: env["POSTGRES_PORT"].parse().expect("scripts/rig writes a port"),
            password: env["POSTGRES_PASSWORD"].clone(),
            ca: PathBuf::from(&env["POSTGRES_CA"]),
            programs: PathBuf::from(&env["POSTGRES_PROGRAMS"]),
            dir,
            private,
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.private.is_some() && alive(self.pid()) {
            self.thaw();
            self.kill();
        }
    }
}

/// Sends a signal; a process that is gone already is not an error.
pub fn signal(pid: u32, with: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid is a small positive number");
    let _ = kill_process(pid, with);
}

/// SIGSTOP to processes, and waits until all their threads stand still: on a busy machine that takes a while.
#[track_caller]
pub fn freeze(processes: &[u32]) {
    for process in processes {
        signal(*process, Signal::STOP);
    }
    wait_until("they stand still", Duration::from_secs(30), || processes.iter().all(|process| stands_still(*process)));
}

/// Whether every thread of a process is stopped, or it is gone.
pub fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| matches!(state(&thread.path()), Some('T') | None))
}

/// The state letter of a process or a thread in /proc: `T` is stopped; none when it is gone or only waits for its parent.
fn state(process: &Path) -> Option<char> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let state = stat.rsplit(") ").next()?.chars().next()?;
    (!matches!(state, 'Z' | 'X')).then_some(state)
}

/// Runs a program to its end and returns what it printed; panics with its errors if it fails.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("could not run {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} failed ({}): {errors}", command.get_program(), output.status);
    String::from_utf8(output.stdout).expect("the tools of the rig print UTF-8")
}

pub(super) fn alive(pid: u32) -> bool {
    state(Path::new(&format!("/proc/{pid}"))).is_some()
}

fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        fields.nth(1) == Some(&parent.to_string())
    };
    let processes = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

#[track_caller]
pub(super) fn rig(args: &[&str]) {
    output(Command::new(format!("{ROOT}/scripts/rig")).args(args));
}

/// Under the system's folder for temporary files and open to the user that PostgreSQL runs as; `scripts/rig stop` knows the prefix.
pub(super) fn private_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    builder.prefix("dinnerbell-rig.").permissions(fs::Permissions::from_mode(0o755));
    builder.tempdir().expect("a temporary folder can be made")
}

pub(super) fn read_env(path: &Path) -> HashMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
    text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
}

pub(super) fn read_pid(path: &Path) -> u32 {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
    text.trim().parse().expect("scripts/rig writes a pid")
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have UTF-8 names")
}
