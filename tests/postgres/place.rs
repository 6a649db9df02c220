//! A test's database, reached as the service reaches it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dinnerbell_config as config;
use dinnerbell_config::{PostgresTls, SslMode, TableName};
use dinnerbell_core::model::input::decode;
use dinnerbell_core::model::intake::IntakeBatch;
use dinnerbell_core::model::number::{Millis, Offset};
use dinnerbell_core::model::record::Record;
use dinnerbell_postgres::connect::Pool;
use tempfile::TempDir;

use crate::support::service::{self, Service, ServiceConfig};
use crate::support::{Campaign, Database, PostgresServer, unique, wait_until};

pub const SOON: Duration = Duration::from_secs(60);

/// An empty database on the shared server.
pub fn empty_database() -> Database {
    Database::create(&PostgresServer::shared())
}

/// A database with the two tables of the seed.
pub fn seed_database() -> Database {
    let database = empty_database();
    database.create_seed_tables();
    database
}

/// A section of the configuration for a connection string of tokio-postgres, without TLS.
pub fn section(url: &str, table: &str) -> config::Database {
    config::Database {
        connection: url.parse().expect("tests write valid URLs"),
        tls: PostgresTls { mode: SslMode::Disable, root_cert: None, client_cert: None },
        table: TableName { schema: "public".into(), table: table.into() },
        max_connections: 4,
    }
}

/// Connections to the feedback table of a database.
pub fn feedback_pool(database: &Database) -> Pool {
    Pool::open(&section(&database.plain_url(), "subscribers_feedback"), "feedback").unwrap()
}

/// Connections to the subscribers table of a database.
pub fn subscribers_pool(database: &Database) -> Pool {
    Pool::open(&section(&database.plain_url(), "subscribers_restaurants"), "subscribers").unwrap()
}

/// Campaigns as they arrive in a lane, in this order, at its offsets from `from` on.
pub fn intake_batch(from: i64, campaigns: &[Campaign]) -> Arc<IntakeBatch> {
    let arrival = |(offset, campaign): (i64, &Campaign)| {
        let value = Some(campaign.json().into_bytes());
        let arrival = decode(None, value.as_deref());
        let offset = Offset::new(offset);
        let record = Record { offset, timestamp: Millis::new(0), key: None, value, headers: Vec::new(), omitted: None };
        (record, arrival)
    };
    let records: Vec<_> = (from..).zip(campaigns).map(arrival).collect();
    let to = from + i64::try_from(campaigns.len()).unwrap();
    Arc::new(IntakeBatch { from: Offset::new(from), to: Offset::new(to), records })
}

/// A login of its own in a database, with no rights but what the test grants; its URL.
pub struct Login {
    pub name: String,
    pub url: String,
    database: Arc<Database>,
}

impl Login {
    pub fn create(database: &Arc<Database>) -> Self {
        let name = unique("r_");
        database.execute(&format!("create role {name} login password 'of-{name}'"));
        let url = database.plain_url();
        let (_, behind) = url.split_once('@').expect("the URL names a user");
        Self { url: format!("postgres://{name}:of-{name}@{behind}"), name, database: database.clone() }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.database.execute(&format!("drop owned by {0}; drop role {0}", self.name));
        }
    }
}

/// `dinnerbell migrate` for these URLs.
pub struct Migration {
    pub config: ServiceConfig,
    dir: TempDir,
}

impl Migration {
    pub fn of(subscribers: &str, feedback: &str) -> Self {
        let mut config = ServiceConfig::default();
        config.set("kafka", "bootstrap_servers", "127.0.0.1:1").set("kafka", "security_protocol", "PLAINTEXT");
        config.set("kafka", "group_id", "dinnerbell");
        config.set("kafka.topics", "campaigns", "promo.in").set("kafka.topics", "notifications", "promo.out");
        config.set("subscribers", "url", without_password(subscribers));
        config.set("subscribers", "password", password(subscribers));
        config.set("subscribers", "table", "public.subscribers_restaurants");
        config.set("feedback", "url", without_password(feedback)).set("feedback", "password", password(feedback));
        config.set("feedback", "table", "public.subscribers_feedback");
        Self { config, dir: tempfile::tempdir().unwrap() }
    }

    pub fn of_one(database: &Database) -> Self {
        Self::of(&database.plain_url(), &database.plain_url())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let file = self.config.write(self.dir.path());
        let mut all = vec!["migrate", "-c", file.to_str().unwrap()];
        all.extend(args);
        service::command(self.dir.path(), &all)
    }

    pub fn run(&self, args: &[&str]) -> Output {
        service::run(self.command(args), SOON)
    }

    /// It runs, and the test goes on.
    pub fn start(&self) -> Service {
        Service::spawn(self.command(&[]), self.dir.path())
    }

    /// What it printed; it must succeed.
    #[track_caller]
    pub fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it complained of; it must exit 1.
    #[track_caller]
    pub fn fail(&self) -> String {
        let output = self.run(&[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn password(url: &str) -> String {
    let user = url.trim_start_matches("postgres://").split('@').next().unwrap();
    user.split_once(':').map_or_else(String::new, |(_, password)| password.to_owned())
}

fn without_password(url: &str) -> String {
    url.replacen(&format!(":{}@", password(url)), "@", 1)
}

/// A pgbouncer in transaction mode with Debian's defaults, in front of one server.
pub struct Pooler {
    port: u16,
    process: Child,
    server: Arc<PostgresServer>,
    dir: TempDir,
}

impl Pooler {
    /// With so many connections to the server for each database.
    pub fn start(server: &Arc<PostgresServer>, connections: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("dinnerbell-pooler.").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = |name: &str, text: String| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let users = file("users.txt", format!("\"postgres\" \"{}\"\n", server.password));
        let config = file(
            "pgbouncer.ini",
            format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\npool_mode = transaction\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\ndefault_pool_size = {connections}\n\
                 logfile = {}\n",
                server.port,
                users.display(),
                dir.path().join("log").display()
            ),
        );
        let process = unprivileged(dir.path(), &config);
        wait_until("pgbouncer listens", SOON, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, process, server: server.clone(), dir }
    }

    /// The same database through it.
    pub fn url(&self, database: &Database) -> String {
        let PostgresServer { password, .. } = &*self.server;
        format!("postgres://postgres:{password}@127.0.0.1:{}/{}?sslmode=disable", self.port, database.name)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// pgbouncer refuses to run as root.
fn unprivileged(dir: &Path, config: &PathBuf) -> Child {
    let pgbouncer = if Path::new("/usr/sbin/pgbouncer").exists() { "/usr/sbin/pgbouncer" } else { "pgbouncer" };
    let is_root = rustix::process::geteuid().is_root();
    let mut command = if is_root {
        let owner = Command::new("chown").args(["-R", "nobody"]).arg(dir).status().unwrap();
        assert!(owner.success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", pgbouncer]);
        command
    } else {
        Command::new(pgbouncer)
    };
    command.arg("--quiet").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("scripts/setup installs pgbouncer")
}
