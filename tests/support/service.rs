//! The service as a user runs it: the binary, a configuration file, signals.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use toml::{Table, Value};

use super::servers::{freeze, signal, stands_still};
use super::wait::{unique, wait_for, wait_until};

/// SIGTERM ends the service within ten seconds; a little more for a machine that is busy.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// The port is taken before anything else.
const SERVES_WITHIN: Duration = Duration::from_secs(15);

/// How much of a log a failed test shows.
const SHOWN_LINES: usize = 80;

/// A configuration file in the making.
#[derive(Debug, Clone, Default)]
pub struct ServiceConfig {
    table: Table,
}

impl ServiceConfig {
    /// Sets a key of a section, for instance `("kafka.client", "session.timeout.ms", 3000)`.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) -> &mut Self {
        let mut table = &mut self.table;
        for part in section.split('.') {
            let entry = table.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().expect("sections hold keys");
        }
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Takes a key out.
    pub fn remove(&mut self, section: &str, key: &str) -> &mut Self {
        let mut table = &mut self.table;
        for part in section.split('.') {
            table = table[part].as_table_mut().expect("sections hold keys");
        }
        table.remove(key);
        self
    }

    /// The file's text.
    pub fn toml(&self) -> String {
        toml::to_string(&self.table).expect("a table is TOML")
    }

    /// Writes it into a folder under a name of its own.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join(unique("dinnerbell-") + ".toml");
        fs::write(&path, self.toml()).expect("the test's folder can be written");
        path
    }
}

/// The binary with arguments, in a folder; nothing of the surrounding environment configures it, but for the guards that a proof takes out.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dinnerbell"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("DINNERBELL_") && name != "DINNERBELL_WITHOUT")
    {
        command.env_remove(name);
    }
    command.args(args).current_dir(dir).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// Runs the binary to its end; it is killed if it takes longer than `within`.
#[track_caller]
pub fn run(mut command: Command, within: Duration) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("cargo built the binary");
    let pid = child.id();
    let (done, overdue) = std::sync::mpsc::sync_channel::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if overdue.recv_timeout(within) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{within:?} are over: the command is killed");
                signal(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output().expect("the command was started");
        drop(done);
        output
    })
}

/// An instance of the service that runs; killed when dropped.
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a command, its output going to a log in the folder.
    pub fn spawn(command: Command, dir: &Path) -> Self {
        Self::spawn_logging_to(command, dir.join(unique("service-") + ".log"))
    }

    /// The same with this file for a log.
    pub fn spawn_logging_to(mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).expect("the log can be opened");
        command.stdout(file.try_clone().expect("a file handle can be copied")).stderr(file);
        Self { child: command.spawn().expect("cargo built the binary"), log }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log was created")).into_owned()
    }

    /// Waits until it printed this.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, within: Duration) {
        let mut file = File::open(&self.log).expect("the log was created");
        let mut seen = Vec::new();
        wait_until(&format!("{text:?} in the log"), within, || {
            // Only what is new, and as much of the old as the text may have begun in.
            let keep = seen.len().min(text.len());
            seen.drain(..seen.len() - keep);
            file.read_to_end(&mut seen).expect("the log can be read");
            String::from_utf8_lossy(&seen).contains(text)
        });
    }

    /// What its HTTP answers, head and body.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let address = wait_for("the port is in the log", SERVES_WITHIN, || {
            let log = self.log();
            let at = log.find("127.0.0.1:")?;
            log[at..].split(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).next().map(str::to_owned)
        });
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Waits until a fail point killed it.
    #[track_caller]
    pub fn wait_for_abort(&mut self, within: Duration) {
        let status = self.wait(within);
        let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
        assert!(killed, "the service ended by itself ({status}) where a fail point was to kill it");
    }

    /// Waits until a fail point froze it.
    #[track_caller]
    pub fn wait_for_freeze(&self, within: Duration) {
        wait_until("the service stands still", within, || stands_still(self.pid()));
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        wait_for("the service ended", within, || self.child.try_wait().expect("it is our child"))
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(STOPS_WITHIN);
    }

    /// SIGTERM; it must exit 0 in time. Returns its log.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait(STOPS_WITHIN);
        assert!(status.success(), "after SIGTERM the service ended with {status}");
        self.log()
    }

    /// SIGSTOP, and waits until it stands still.
    #[track_caller]
    pub fn freeze(&self) {
        freeze(&[self.pid()]);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Any signal.
    pub fn signal(&self, with: Signal) {
        signal(self.pid(), with);
    }

    /// The largest resident memory it had, in kB.
    pub fn peak_memory_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a running process has VmHWM");
        line.trim().trim_end_matches(" kB").parse().expect("VmHWM is a number of kB")
    }

    fn show_log(&self) {
        // A panic would be the second one, and end every other test too.
        let log = fs::read(&self.log).unwrap_or_else(|error| error.to_string().into_bytes());
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        eprintln!("--- the end of the log of the service, pid {}:\n{}\n---", self.pid(), shown.join("\n"));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        // Neither fails in a way that matters: it is gone, or it goes now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
