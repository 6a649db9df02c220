//! The service as a process of its own, so that its memory is its own.

use dinnerbell_core::model::number::Lane;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use super::error::BenchError;
use super::progress::STANDSTILL;
use super::scrape::Scrape;
use crate::environment::Stage;
use dinnerbell_config::address::free_port;

/// How long it may take to end.
const END: Duration = Duration::from_secs(12);
/// How often what is waited for is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How much of the log an error shows.
const SHOWN_LINES: usize = 8;

/// An instance of the service. Dropped, it is asked to end, and waited for.
pub struct Instance {
    child: Child,
    address: SocketAddr,
    /// The largest share of its memory for drafts that a scrape saw in use.
    in_flight_share: Option<f64>,
    log: PathBuf,
    _folder: TempDir,
}

impl Instance {
    /// Starts `dinnerbell run` on a stage, and waits until every lane runs.
    pub async fn start(stage: &Stage<'_>) -> Result<Self, BenchError> {
        let mut instance = Self::begin(stage)?;
        let until = Instant::now() + STANDSTILL;
        loop {
            instance.lives()?;
            let lanes = Scrape::of(instance.address).await.map_or(0, |scrape| scrape.running_lanes());
            if lanes >= usize::try_from(stage.lanes).unwrap_or(usize::MAX) {
                return Ok(instance);
            }
            if Instant::now() > until {
                return Err(instance.failed(&format!("{lanes} of {} lanes run after {STANDSTILL:?}", stage.lanes)));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Starts `dinnerbell run` on a stage, and waits for nothing.
    pub fn begin(stage: &Stage<'_>) -> Result<Self, BenchError> {
        Self::spawn(stage).map_err(|error| {
            BenchError::Failed(format!("the service cannot be started as a process of its own: {error}"))
        })
    }

    /// The lanes that are its own, as far as it says so yet.
    pub async fn lanes(&mut self) -> Result<BTreeSet<Lane>, BenchError> {
        self.lives()?;
        Ok(Scrape::of(self.address).await.map_or_else(BTreeSet::new, |scrape| scrape.lanes()))
    }

    /// Asks it to end, and waits for nothing.
    pub fn ask_to_end(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(mut self) {
        // Neither fails in a way that matters: it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn spawn(stage: &Stage<'_>) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dinnerbell-bench.").tempdir()?;
        let log = folder.path().join("service.log");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run");
        if let Some(file) = stage.file() {
            command.arg("-c").arg(file);
        }
        // The environment stands over the file: what is secret is written nowhere.
        for name in stage.removed_variables() {
            command.env_remove(name);
        }
        command.envs(stage.variables()).env("DINNERBELL_HTTP__LISTEN", address.to_string());
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A Ctrl-C of the terminal reaches the bench alone, which then ends the service.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Self { child: command.spawn()?, address, in_flight_share: None, log, _folder: folder })
    }

    /// What its metrics say now.
    pub async fn scrape(&mut self) -> Result<Scrape, BenchError> {
        self.lives()?;
        match Scrape::of(self.address).await {
            Some(scrape) => {
                let share = scrape.in_flight_share();
                // None is less than any.
                self.in_flight_share = if share > self.in_flight_share { share } else { self.in_flight_share };
                Ok(scrape)
            }
            None => {
                self.lives()?;
                Err(self.failed("its /metrics do not answer"))
            }
        }
    }

    /// Waits until it has published this number of drafts in all, looking ever more seldom: what looks must not cost what it measures.
    pub async fn published(&mut self, drafts: usize) -> Result<Scrape, BenchError> {
        let began = Instant::now();
        let (mut last, mut seen) = (began, 0);
        loop {
            let scrape = self.scrape().await?;
            let published = scrape.drafts();
            if published >= drafts {
                return Ok(scrape);
            }
            if published > seen {
                (last, seen) = (Instant::now(), published);
            } else if last.elapsed() > STANDSTILL {
                return Err(self.failed(&format!("it stands still at {published} of {drafts} drafts")));
            }
            let pause = (began.elapsed() / 200).clamp(Duration::from_millis(2), Duration::from_millis(50));
            tokio::time::sleep(pause).await;
        }
    }

    /// The largest share of its memory for drafts that any scrape saw in use.
    pub fn in_flight_share(&self) -> Option<f64> {
        self.in_flight_share
    }

    /// The largest resident memory it had, in bytes.
    pub fn peak_memory(&self) -> Result<u64, BenchError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes
            .map(|kilobytes| kilobytes * 1024)
            .ok_or_else(|| self.failed("its peak memory cannot be read in /proc"))
    }

    /// Ends it in order.
    pub fn stop(self) {
        tokio::task::block_in_place(|| drop(self));
    }

    fn signal(&mut self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // While it has not been waited for, the pid is its own.
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            let _ = kill_process(pid, signal);
        }
    }

    fn lives(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(&status.to_string())),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    /// An error about it, with the end of its log.
    pub fn failed(&self, why: &str) -> BenchError {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
        BenchError::Failed(format!("the service that is measured: {why}; the end of its log:\n  {last}"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            #[expect(
                clippy::disallowed_methods,
                reason = "a destructor cannot await, and a child that ends wakes nobody"
            )]
            std::thread::sleep(POLL_INTERVAL);
        }
        // Neither fails in a way that matters: it is gone, or it goes now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
