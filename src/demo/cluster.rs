//! A PostgreSQL cluster of the demo's own, from the programs that are installed.
//!
//! It must not outlive the demo, not even one that was killed. So a shell stands between the two. It makes the cluster, runs it, and holds the read
//! end of a pipe whose write end only the demo has. Whatever ends the demo closes that pipe; then the shell ends the server and removes the folder.
//! It is a process group of its own: a Ctrl-C of the terminal reaches the demo alone.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dinnerbell_config::address::free_port;
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The programs that are needed.
const NEEDED: [&str; 2] = ["initdb", "postgres"];
/// Who may own a cluster where root started the demo; the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];
/// How long the server may take to end, its folder's removal included.
const STOP: Duration = Duration::from_secs(8);
/// How much of a log an error shows.
const SHOWN_LINES: usize = 5;

/// The user that owns the demo's database.
pub const USER: &str = "dinnerbell";

/// What the shell does with: the programs' folder, the cluster's folder, the port, the user.
///
/// The descriptor 3 is the pipe: a background job's standard input would be /dev/null. A server that has only just begun still ignores SIGQUIT, as
/// background jobs do. So the signal is repeated until there is no process to take it. `over` tells an end that was asked for from one that was not,
/// whose log is still to be read.
const SUPERVISE: &str = r#"
exec 3<&0 </dev/null
programs=$1 folder=$2 port=$3 user=$4
run() {
    signal=$1 log=$2
    shift 2
    "$@" >"$folder/$log" 2>&1 3<&- &
    job=$!
    { read -r _ <&3; : >"$folder/over"; while kill "-$signal" "$job"; do sleep 0.1; done; } &
    watcher=$!
    wait "$job"
    status=$?
    kill "$watcher"
    return "$status"
}
run TERM initdb.log "$programs/initdb" --pgdata="$folder/data" --username="$user" --pwfile="$folder/password" \
    --auth=scram-sha-256 --encoding=UTF8 --no-locale --no-sync &&
    run QUIT postgres.log "$programs/postgres" -D "$folder/data" -p "$port" -h 127.0.0.1 -k ""
[ -e "$folder/over" ] || exit 1
for attempt in 1 2 3 4 5 6 7 8 9; do rm -rf "$folder" && exit 0; sleep 0.2; done
exit 1
"#;

/// The folder with PostgreSQL's programs.
#[derive(Debug, Clone)]
pub struct Programs(PathBuf);

impl Programs {
    /// The newest that are installed.
    pub fn find() -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(Path::new(VERSIONS), &path).ok_or_else(|| {
            format!(
                "PostgreSQL's programs initdb and postgres are neither in {VERSIONS}/*/bin nor in PATH; install them, on \
                 Debian with `apt-get install postgresql`, or let `make demo` do it"
            )
        })
    }

    fn find_in(versions: &Path, path: &OsStr) -> Option<Self> {
        let mut versioned: Vec<(u32, PathBuf)> = std::fs::read_dir(versions)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        versioned.sort_by(|(one, _), (other, _)| other.cmp(one));
        let folders = versioned.into_iter().map(|(_, folder)| folder);
        folders.chain(std::env::split_paths(path)).find(|folder| has_programs(folder)).map(Self)
    }
}

fn has_programs(folder: &Path) -> bool {
    let is_program = |name: &str| {
        std::fs::metadata(folder.join(name)).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    NEEDED.iter().all(|name| is_program(name))
}

/// A cluster that ends with the demo.
#[derive(Debug)]
pub struct Cluster {
    supervisor: Child,
    /// The write end of the pipe.
    pipe: ChildStdin,
    port: u16,
    password: String,
    // Last: dropped when the pipe is closed already.
    folder: TempDir,
}

impl Cluster {
    /// Starts to make a cluster; [`Cluster::ended`] completes if that fails.
    pub fn start(programs: &Programs) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("dinnerbell-demo.")
            // It holds a password.
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| format!("cannot make a folder in {}: {error}", std::env::temp_dir().display()))?;
        let password = uuid::Uuid::new_v4().simple().to_string();
        let port = free_port().map_err(|error| format!("no port of 127.0.0.1 is free: {error}"))?;
        let secret = folder.path().join("password");
        let prepared = std::fs::write(&secret, &password).and_then(|()| {
            // Where root asks, the folder becomes somebody else's: initdb and postgres refuse to run as root.
            let owner = unprivileged(folder.path())?;
            if let Some((user, group)) = owner {
                std::os::unix::fs::chown(&secret, Some(user), Some(group))?;
                std::os::unix::fs::chown(folder.path(), Some(user), Some(group))?;
            }
            Ok(owner)
        });
        let owner =
            prepared.map_err(|error| format!("cannot prepare the folder {}: {error}", folder.path().display()))?;
        let mut supervisor = supervise(programs, folder.path(), port, owner)
            .map_err(|error| not_started(folder.path(), owner.is_some(), &error))?;
        // Out of the child's hands: to wait for it would close the pipe.
        let pipe = supervisor.stdin.take().expect("its standard input is a pipe");
        Ok(Self { supervisor, pipe, port, password, folder })
    }

    /// Its folder; others may use it too while the cluster runs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How to reach it.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// Completes when it could not be made, or ended though nobody asked: says why.
    pub async fn ended(&mut self) -> String {
        let status = match self.supervisor.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let last_words = ["postgres.log", "initdb.log"].iter().find_map(|name| {
            let log = std::fs::read_to_string(self.folder().join(name)).ok()?;
            let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            Some(lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; "))
        });
        format!("the demo's PostgreSQL ended: {}", last_words.filter(|words| !words.is_empty()).unwrap_or(status))
    }

    /// Ends it and waits until nothing is left of it. What it holds is thrown away, so it ends without writing it down.
    pub async fn stop(mut self) -> Result<(), String> {
        drop(self.pipe);
        let ended = timeout(STOP, self.supervisor.wait()).await.is_ok();
        let folder = self.folder.path().to_owned();
        // Mostly gone already: the shell removes it.
        let removed = self.folder.close();
        match (ended, removed) {
            (false, _) => Err(format!("the demo's PostgreSQL in {} did not end in time", folder.display())),
            (true, Err(error)) if folder.exists() => Err(format!("cannot remove {}: {error}", folder.display())),
            (true, _) => Ok(()),
        }
    }
}

fn not_started(folder: &Path, as_another: bool, error: &io::Error) -> String {
    let remedy = match as_another {
        true => {
            "; root may not run PostgreSQL, so another user must be able to enter that folder: set TMPDIR to one like /tmp"
        }
        false => "",
    };
    format!("cannot start /bin/sh in {}: {error}{remedy}", folder.display())
}

fn supervise(programs: &Programs, folder: &Path, port: u16, owner: Option<(u32, u32)>) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SUPERVISE, "dinnerbell-demo"]).arg(&programs.0).arg(folder).args([&port.to_string(), USER]);
    // A surrounding PGDATA or PGPORT is meant for another cluster.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.spawn()
}

/// The user and group to run as where we are root.
fn unprivileged(ours: &Path) -> io::Result<Option<(u32, u32)>> {
    // What we made is owned by who we are.
    if std::fs::metadata(ours)?.uid() != 0 {
        return Ok(None);
    }
    let id = |what: &str, user: &str| {
        let output = std::process::Command::new("id").args([what, user]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    let found = UNPRIVILEGED.iter().find_map(|user| Some((id("-u", user)?, id("-g", user)?)));
    let none = || io::Error::other("root may not run PostgreSQL, and there is neither a user postgres nor nobody");
    found.map(Some).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_programs(folder: &Path, mode: u32) {
        std::fs::create_dir_all(folder).unwrap();
        for name in NEEDED {
            std::fs::write(folder.join(name), "").unwrap();
            std::fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).unwrap();
        }
    }

    #[test]
    fn the_newest_version_is_taken_by_number_before_the_path() {
        let root = tempfile::tempdir().unwrap();
        let versions = root.path().join("postgresql");
        for version in ["9", "15", "16"] {
            with_programs(&versions.join(version).join("bin"), 0o755);
        }
        with_programs(&root.path().join("path"), 0o755);
        let found = Programs::find_in(&versions, root.path().join("path").as_os_str()).unwrap();
        assert_eq!(found.0, versions.join("16/bin"));
    }

    #[test]
    fn a_folder_of_what_cannot_be_run_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        with_programs(&root.path().join("versions/16/bin"), 0o644);
        with_programs(&root.path().join("path"), 0o755);
        let versions = root.path().join("versions");
        let found = Programs::find_in(&versions, root.path().join("path").as_os_str()).unwrap();
        assert_eq!(found.0, root.path().join("path"));
        assert!(Programs::find_in(&versions, OsStr::new("/nowhere")).is_none());
    }
}
