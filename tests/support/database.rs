//! A test's own database, written and read through psql.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::servers::PostgresServer;
use super::wait::unique;

/// The two tables of the seed, as they exist at users.
const SEED_TABLES: &str = "
    create table public.subscribers_restaurants (
        id serial4 not null, client_id varchar not null, restaurant_id varchar not null, constraint pk_id primary key (id));
    create table public.subscribers_feedback (
        id serial4 not null, restaurant_id text not null, adv_campaign_id text not null, adv_campaign_content text not null,
        adv_campaign_owner text not null, adv_campaign_owner_contact text not null, adv_campaign_datetime_start int8 not null,
        adv_campaign_datetime_end int8 not null, datetime_created int8 not null, client_id text not null,
        trigger_datetime_created int4 not null, feedback varchar null, constraint id_pk primary key (id));";

/// A database of one test; dropped with it, kept for a look if the test fails.
pub struct Database {
    /// Its name.
    pub name: String,
    server: Arc<PostgresServer>,
}

impl Database {
    /// An empty database.
    pub fn create(server: &Arc<PostgresServer>) -> Self {
        let name = unique("t_");
        psql(server, "postgres", &format!("create database {name}"));
        Self { name, server: server.clone() }
    }

    /// An empty database of another encoding than UTF-8.
    pub fn encoded(server: &Arc<PostgresServer>, encoding: &str) -> Self {
        let name = unique("t_");
        let settings = format!("encoding '{encoding}' locale_provider libc locale 'C' template template0");
        psql(server, "postgres", &format!("create database {name} {settings}"));
        Self { name, server: server.clone() }
    }

    /// Makes the two tables of the seed.
    pub fn create_seed_tables(&self) {
        self.execute(SEED_TABLES);
    }

    /// Fills the subscribers table with samples/subscribers_restaurants.csv.
    pub fn load_sample_subscribers(&self) {
        let csv = include_str!("../../samples/subscribers_restaurants.csv");
        self.execute(&format!("copy public.subscribers_restaurants from stdin with (format csv, header);\n{csv}\\.\n"));
    }

    /// Adds so many subscribers to a restaurant, with ids that no other call gives.
    pub fn subscribe(&self, restaurant_id: &str, how_many: u64) {
        self.execute(&format!(
            "insert into public.subscribers_restaurants (client_id, restaurant_id)
             select gen_random_uuid()::text, '{restaurant_id}' from generate_series(1, {how_many})"
        ));
    }

    /// Adds these subscribers to a restaurant.
    pub fn subscribe_clients(&self, restaurant_id: &str, clients: &[&str]) {
        let values: Vec<_> = clients.iter().map(|client| format!("('{client}', '{restaurant_id}')")).collect();
        let insert = "insert into public.subscribers_restaurants (client_id, restaurant_id) values";
        self.execute(&format!("{insert} {}", values.join(",")));
    }

    /// Who favours a restaurant now, each once.
    pub fn clients_of(&self, restaurant_id: &str) -> Vec<String> {
        let sql = "select distinct client_id from public.subscribers_restaurants where restaurant_id =";
        let rows = self.query(&format!("{sql} '{restaurant_id}'"));
        rows.iter().map(|row| row["client_id"].as_str().expect("client ids are text").to_owned()).collect()
    }

    /// Runs statements, each in a transaction of its own; panics if one fails.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        psql(&self.server, &self.name, sql);
    }

    /// Runs a query; each row as a JSON object by column.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Value> {
        let text = psql(&self.server, &self.name, &format!("select row_to_json(t) from ({sql}) t"));
        text.lines().map(|line| serde_json::from_str(line).expect("row_to_json gives JSON")).collect()
    }

    /// Runs statements and returns what psql prints.
    #[track_caller]
    pub fn text(&self, sql: &str) -> String {
        psql(&self.server, &self.name, sql)
    }

    /// Runs a query that gives one number.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let text = psql(&self.server, &self.name, sql);
        text.trim().parse().unwrap_or_else(|_| panic!("{sql} gave {text:?}, not a number"))
    }

    /// As the service's configuration names it, for the superuser, with TLS and the private CA; the password apart.
    pub fn url(&self) -> String {
        let PostgresServer { port, ca, .. } = &*self.server;
        format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=verify-full&sslrootcert={}", self.name, ca.display())
    }

    /// The same without TLS, with the password: for tests that connect themselves through tokio-postgres.
    pub fn plain_url(&self) -> String {
        let PostgresServer { port, password, .. } = &*self.server;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{}?sslmode=disable", self.name)
    }

    /// The server that holds it.
    pub fn server(&self) -> &Arc<PostgresServer> {
        &self.server
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: database {} on port {}", self.name, self.server.port);
        } else {
            psql(&self.server, "postgres", &format!("drop database {} with (force)", self.name));
        }
    }
}

/// psql ready to connect as the superuser, quiet, stopping at the first error.
pub fn psql_command(server: &PostgresServer, database: &str) -> Command {
    let mut psql = Command::new(server.programs.join("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]);
    psql.args(["--host=127.0.0.1", "--username=postgres", "--dbname", database]).arg(format!("--port={}", server.port));
    psql.env("PGPASSWORD", &server.password).env("PGCLIENTENCODING", "UTF8");
    psql
}

/// Runs statements from standard input, so that COPY data may follow them.
#[track_caller]
fn psql(server: &PostgresServer, database: &str, sql: &str) -> String {
    let mut command = psql_command(server, database);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("scripts/setup installs psql");
    let mut input = child.stdin.take().expect("stdin is piped");
    let output = std::thread::scope(|scope| {
        // psql that stopped at an error reads no further; its own message says why.
        scope.spawn(move || input.write_all(sql.as_bytes()));
        child.wait_with_output().expect("psql was started")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "psql failed on {database}: {errors}\n{sql}");
    String::from_utf8(output.stdout).expect("psql prints UTF-8")
}
