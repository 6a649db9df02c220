//! What went wrong at a database: whether it may pass, in words that name the database and the setting to change.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::missed_lock::MissedLock;
use dinnerbell_core::model::lock::{LockHolder, LockWait};
use dinnerbell_core::ports::audience::AudienceError;
use dinnerbell_core::ports::failure::{Failure, FailureKind};
use dinnerbell_core::ports::ledger::{LedgerError, Refusal};

/// How long a database may take to answer before the connection is given up.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Indexes of ours begin with this: a unique violation of one of them is a draft that exists already.
pub const OUR_INDEXES: &str = "dinnerbell_";

/// Whether it makes sense to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It may pass: server away or starting, a lock or statement time-out, a recovery conflict, a full disk.
    Transient,
    /// The server refuses and will refuse again: password, right, table, column, constraint, size.
    Refused,
    /// A unique index holds such a row already.
    Duplicate,
}

/// An error of one of the two databases. Its text never holds a password, and no field of a row but the key of a duplicate.
#[derive(Debug, Clone)]
pub struct PostgresError {
    kind: ErrorKind,
    code: Option<SqlState>,
    constraint: Option<String>,
    /// The server refused to hide rows.
    hides_rows: bool,
    text: String,
    /// What mends it, where it is known.
    remedy: Option<String>,
    /// A lock did not come in time.
    lock: Option<Box<MissedLock>>,
}

impl PostgresError {
    /// An error that may pass and that no server reported.
    pub fn transient(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, text.into())
    }

    /// An error that stays, and that no server reported.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, text.into())
    }

    fn new(kind: ErrorKind, text: String) -> Self {
        Self { kind, code: None, constraint: None, hides_rows: false, text, remedy: None, lock: None }
    }

    /// The same, where it is about a lock, with who held that.
    pub fn held_by(mut self, holder: Option<LockHolder>) -> Self {
        if let (Some(lock), Some(_)) = (&mut self.lock, &holder) {
            lock.holder = holder;
        }
        self
    }

    /// The lock that did not come in time, if it is about one.
    pub fn missed_lock(&self) -> Option<&MissedLock> {
        self.lock.as_deref()
    }

    /// The same, with more of what was found.
    pub fn adding(mut self, text: &str) -> Self {
        self.text.push_str("; ");
        self.text.push_str(text);
        self
    }

    /// The same, with what mends it.
    pub fn mended_by(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same of a server that is no standby: it takes no writes because somebody told it so.
    pub fn of_no_standby(self) -> Self {
        match self.code() {
            Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => self.mended_by(TAKE_WRITES),
            _ => self,
        }
    }

    /// What was found, and what mends it where that is known.
    pub fn into_parts(self) -> (String, Option<String>) {
        (self.text, self.remedy)
    }

    /// Whether it makes sense to ask again.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The SQLSTATE, where a server reported one.
    pub fn code(&self) -> Option<&SqlState> {
        self.code.as_ref()
    }

    /// Whether row-level security would have hidden rows, and the server was told to refuse then.
    pub fn hides_rows(&self) -> bool {
        self.hides_rows
    }

    /// The unique index or constraint that was violated.
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    /// Whether a draft exists already: of that the plan was wrong, and not the table.
    pub fn is_of_our_index(&self) -> bool {
        self.kind == ErrorKind::Duplicate && self.constraint().is_some_and(|name| name.starts_with(OUR_INDEXES))
    }

    /// Whether a constraint of the table refused a row.
    pub fn is_of_a_constraint(&self) -> bool {
        self.code().is_some_and(|code| code.code().starts_with("23")) && !self.is_of_our_index()
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(holder) = self.lock.as_ref().and_then(|lock| lock.holder.as_ref()) {
            write!(f, "; {holder}; {}", holder.remedy())?;
        }
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for PostgresError {}

impl Failure for PostgresError {
    fn failure_kind(&self) -> FailureKind {
        match self.kind {
            ErrorKind::Transient => FailureKind::Transient,
            ErrorKind::Duplicate | ErrorKind::Refused => FailureKind::Refused,
        }
    }
}

impl From<PostgresError> for LedgerError {
    fn from(error: PostgresError) -> Self {
        match error.kind {
            ErrorKind::Transient => match error.lock {
                Some(lock) => {
                    let MissedLock { row, holder, .. } = *lock;
                    Self::Locked(Box::new(LockWait { found: error.text, row, holder, campaigns: Vec::new() }))
                }
                None => Self::Transient(error.to_string()),
            },
            ErrorKind::Duplicate if error.is_of_our_index() => Self::Duplicate(error.to_string()),
            // Another unique constraint than the one on (campaign, client): planning again cannot help.
            ErrorKind::Duplicate | ErrorKind::Refused => {
                let (found, remedy) = error.into_parts();
                Self::Refused(Refusal { found, remedy })
            }
        }
    }
}

impl From<PostgresError> for AudienceError {
    fn from(error: PostgresError) -> Self {
        match error.kind {
            ErrorKind::Transient if error.code.is_some() => Self::Unanswered(error.to_string()),
            ErrorKind::Transient => Self::Transient(error.to_string()),
            ErrorKind::Refused | ErrorKind::Duplicate => Self::Refused(error.to_string()),
        }
    }
}

/// A database as errors name it.
#[derive(Debug, Clone)]
pub struct Address {
    /// The section of the configuration: `feedback` or `subscribers`.
    pub section: &'static str,
    shown: Arc<str>,
}

impl Address {
    /// The address of what a section configures.
    pub fn new(section: &'static str, connection: &tokio_postgres::Config) -> Self {
        let hosts: Vec<String> = match connection.get_hosts() {
            [] => connection.get_hostaddrs().iter().map(ToString::to_string).collect(),
            hosts => hosts
                .iter()
                .map(|host| match host {
                    tokio_postgres::config::Host::Tcp(host) => host.clone(),
                    tokio_postgres::config::Host::Unix(folder) => folder.display().to_string(),
                })
                .collect(),
        };
        let ports: Vec<String> = match connection.get_ports() {
            [] => vec!["5432".to_owned()],
            ports => ports.iter().map(ToString::to_string).collect(),
        };
        let user = connection.get_user().unwrap_or("(current user)");
        let shown = format!(
            "{section} database {name} at {hosts}:{ports} as {user}",
            name = connection.get_dbname().unwrap_or(user),
            hosts = hosts.join(","),
            ports = ports.join(","),
        );
        Self { section, shown: shown.into() }
    }

    /// Says what an error of the client library means.
    pub fn explain(&self, error: &tokio_postgres::Error) -> PostgresError {
        match error.as_db_error() {
            Some(reported) => self.explain_reported(reported),
            None => self.explain_unreported(error),
        }
    }

    /// An error for an answer that did not come in time.
    pub fn silent(&self, time_limit: Duration) -> PostgresError {
        PostgresError::transient(format!("{self}: no answer within {} s", time_limit.as_secs_f32()))
    }

    fn explain_reported(&self, error: &DbError) -> PostgresError {
        let code = error.code();
        let kind = if *code == SqlState::UNIQUE_VIOLATION {
            ErrorKind::Duplicate
        } else if may_pass(code) && !is_final_word_of_a_pooler(error) && copied_into(error).is_none() {
            ErrorKind::Transient
        } else {
            ErrorKind::Refused
        };
        // The detail of other errors can quote a whole row; the one of a duplicate names its key, which the operator needs.
        let detail = match error.detail() {
            Some(detail) if kind == ErrorKind::Duplicate => format!(": {detail}"),
            _ => String::new(),
        };
        let of = match (error.table(), error.column()) {
            (Some(table), Some(column)) => format!(" (table {table}, column {column})"),
            (Some(table), None) => format!(" (table {table})"),
            _ => copied_into(error).map_or_else(String::new, |place| format!(" ({place})")),
        };
        PostgresError {
            kind,
            code: Some(code.clone()),
            constraint: error.constraint().map(str::to_owned),
            hides_rows: hides_rows(error),
            text: format!("{self}: {}{detail}{of} [{}]", error.message(), code.code()),
            remedy: remedy(self.section, error),
            lock: (*code == SqlState::LOCK_NOT_AVAILABLE)
                .then(|| Box::new(MissedLock::of(error.where_().unwrap_or_default()))),
        }
    }

    fn explain_unreported(&self, error: &tokio_postgres::Error) -> PostgresError {
        let mut text = format!("{self}: {error}");
        let mut may_pass = true;
        let mut next = error.source();
        while let Some(cause) = next {
            let words = cause.to_string();
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            if let Some(cause) = cause.downcast_ref::<openssl::ssl::Error>() {
                // Cut off in the middle of a handshake is a server that goes down; anything else is a disagreement.
                may_pass &= cause.io_error().is_some() || words.contains("unexpected eof");
            } else if let Some(cause) = cause.downcast_ref::<io::Error>() {
                may_pass &= cause.kind() != io::ErrorKind::PermissionDenied;
            }
            next = cause.source();
        }
        // The library keeps its kinds to itself and shows them in these words.
        let settled = ["authentication error", "invalid configuration", "does not support TLS", "no hostname provided"];
        may_pass &= !settled.iter().any(|words| text.contains(words));
        if text.contains("TLS") && !may_pass {
            text.push_str(&format!("; see sslmode and sslrootcert in {}.url", self.section));
        } else if text.contains("password missing") {
            text.push_str(&format!("; set {}.password_file", self.section));
        }
        if may_pass { PostgresError::transient(text) } else { PostgresError::refused(text) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Whether an error with this SQLSTATE may pass by itself, or by what operators do without touching this service.
fn may_pass(code: &SqlState) -> bool {
    let code = code.code();
    match &code[..2] {
        // Connections lost or refused for the moment; a pooler says everything in this class.
        "08" => true,
        // Serialisation, deadlock, and on replicas the conflict with recovery.
        "40" => true,
        // Disk full, out of memory, too many connections: it passes when somebody makes room, and until then asking again harms nobody.
        // A halt would need one more hand afterwards.
        "53" => true,
        // 57014 cancelled, 57P01..57P03 shutting down or starting, 57P05 idle session ended.
        "57" => true,
        // Input/output errors of the server.
        "58" => true,
        // 25006: a primary that became a replica, until the name leads to the new one. 25P03: ended while idle.
        "25" => matches!(code, "25006" | "25P02" | "25P03"),
        // 55P03 lock not available, 55006 object in use.
        "55" => matches!(code, "55P03" | "55006"),
        _ => false,
    }
}

/// pgbouncer reports everything as 08P01, also what will not pass.
fn is_final_word_of_a_pooler(error: &DbError) -> bool {
    let settled = [
        "authentication failed",
        "no such user",
        "no such database",
        // Of the server behind it.
        "does not exist",
        "no pg_hba.conf entry",
        "not permitted to log in",
        "unsupported startup parameter",
        "SSL required",
        "bouncer config error",
    ];
    *error.code() == SqlState::PROTOCOL_VIOLATION && settled.iter().any(|words| error.message().contains(words))
}

/// What mends a primary that takes no writes from this user.
const TAKE_WRITES: &str = "alter role ... set default_transaction_read_only = off, or the same of the database or the system where it is on there";

/// What mends row-level security that hides rows.
pub const SHOW_ALL_ROWS: &str = "as a superuser: alter role ... bypassrls, for the service's role; or have the table's owner run: alter table ... disable row level security";

/// PostgreSQL's own name of the place that refuses, since the message may be in any language.
fn hides_rows(error: &DbError) -> bool {
    error.code() == &SqlState::INSUFFICIENT_PRIVILEGE && error.routine() == Some("check_enable_rls")
}

/// COPY does not know row-level security: by the place that refuses too.
fn copies_under_policies(error: &DbError) -> bool {
    error.code() == &SqlState::FEATURE_NOT_SUPPORTED && error.routine() == Some("DoCopy")
}

/// Where in a COPY the server found bytes that it does not take, without the bytes. The table was altered since its columns were read. The class of
/// such an error is that of lost connections.
fn copied_into(error: &DbError) -> Option<&str> {
    let place = error.where_().filter(|place| place.starts_with("COPY "))?;
    let bytes = [SqlState::PROTOCOL_VIOLATION, SqlState::INVALID_BINARY_REPRESENTATION, SqlState::BAD_COPY_FILE_FORMAT];
    bytes.contains(error.code()).then(|| place.split([':', '\n']).next().unwrap_or(place))
}

/// What to do about an error, where it is known.
fn remedy(section: &str, error: &DbError) -> Option<String> {
    let remedy = match error.code().code() {
        "28P01" => format!(
            "correct the user in {section}.url, or the password where it is given: there, in {section}.password or in {section}.password_file"
        ),
        "28000" => format!("allow this user in the server's pg_hba.conf, or change {section}.url"),
        "08P01" if is_final_word_of_a_pooler(error) => {
            format!("correct {section}.url, {section}.password_file or the pooler's configuration")
        }
        "3D000" => format!("correct the name of the database in {section}.url"),
        "42P01" | "3F000" if error.message().contains("dinnerbell.") || error.message().contains("\"dinnerbell\"") => {
            "run `dinnerbell migrate`".to_owned()
        }
        "42P01" | "3F000" => format!("correct {section}.table, or create it with `dinnerbell migrate --create-tables`"),
        "42703" => format!("the table in {section}.table must have this column"),
        "42501" if hides_rows(error) => format!("row-level security would hide rows from this user; {SHOW_ALL_ROWS}"),
        "42501" => "grant it; `dinnerbell doctor --grants` prints the rights that are needed".to_owned(),
        "42P07" => "drop or rename it".to_owned(),
        "55000" if error.routine() == Some("CheckCmdReplicaIdentity") => format!(
            "give the table in {section}.table a replica identity, so that its publication can tell which rows are deleted: alter table ... \
             replica identity default, or full where it has no primary key"
        ),
        "0A000" if copies_under_policies(error) => format!(
            "let row-level security not apply to the user in {section}.url: alter role ... bypassrls, or disable it for the table in {section}.table"
        ),
        // A server before PostgreSQL 14 does not say which of the two it is.
        "25006" => format!("{section}.url must lead to the primary; where it does: {TAKE_WRITES}"),
        "53300" => format!("raise the server's max_connections or lower {section}.max_connections"),
        "53100" => "make room on the server's disk".to_owned(),
        _ => return None,
    };
    Some(remedy)
}

/// Waits for a database at most so long; afterwards the connection must be given up, since the answer may still come.
pub async fn deadline<T, E>(
    address: &Address,
    time_limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, PostgresError>
where
    E: Into<Cause>,
{
    match tokio::time::timeout(time_limit, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.into() {
            Cause::Client(error) => address.explain(&error),
            Cause::Explained(error) => error,
        }),
        Err(_) => Err(address.silent(time_limit)),
    }
}

/// What a future under a deadline may fail with.
pub enum Cause {
    /// The client library's error, to be explained.
    Client(tokio_postgres::Error),
    /// Explained before.
    Explained(PostgresError),
}

impl From<tokio_postgres::Error> for Cause {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Client(error)
    }
}

impl From<PostgresError> for Cause {
    fn from(error: PostgresError) -> Self {
        Self::Explained(error)
    }
}
