//! Whether what goes to a database can be read, or answered by somebody else, on its way.

use tokio_postgres::config::Host;

use crate::connect::Pool;
use crate::errors::PostgresError;
use dinnerbell_config::address::is_of_this_machine;
use dinnerbell_config::{Database, SslMode};
use dinnerbell_core::model::finding::Findings;

/// Judges the connection of a section. What leaves this machine is known from the configuration: the server's own idea of its address may be
/// that of a pooler's connection.
pub async fn check(
    pool: &Pool,
    database: &Database,
    check: &'static str,
    found: &mut Findings,
) -> Result<(), PostgresError> {
    let sql = "select s.ssl, coalesce(s.version, '') from pg_stat_ssl s where s.pid = pg_backend_pid()";
    let rows = pool.query(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (encrypted, version): (bool, &str) = (row.get(0), row.get(1));
    let section = pool.address().section;
    let checked = matches!(database.tls.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let remedy = format!("add sslmode=verify-full and sslrootcert=FILE to {section}.url");
    match (encrypted, checked, stays_here(&database.connection)) {
        (true, true, _) => {
            found.ok(check, format!("encrypted ({version}), and the server's certificate is checked"));
        }
        (true, false, false) => {
            found.warn(check, format!("encrypted ({version}), but anybody could pass for the server"), remedy);
        }
        (false, _, false) => found.warn(
            check,
            format!(
                "the {section} database's server says that the connection, which leaves this machine, is not encrypted (with a pooler in \
                 between: the pooler's own)"
            ),
            remedy,
        ),
        (encrypted, _, true) => {
            let how = if encrypted { format!("encrypted ({version})") } else { "not encrypted".to_owned() };
            found.ok(check, format!("{how}, on this machine"));
        }
    }
    Ok(())
}

/// Whether every server that a section names is on this machine.
fn stays_here(connection: &tokio_postgres::Config) -> bool {
    let here = |host: &Host| match host {
        Host::Tcp(name) => is_of_this_machine(name),
        Host::Unix(_) => true,
    };
    match connection.get_hostaddrs() {
        [] => connection.get_hosts().iter().all(here),
        addresses => addresses.iter().all(|address| address.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_leaves_this_machine_unless_every_server_is_on_it() {
        for (words, stays) in [
            ("host=localhost", true),
            ("host=/run/postgresql", true),
            ("host=127.0.0.1,::1", true),
            ("host=localhost,replica", false),
            ("host=db.example.com", false),
            ("host=localhost hostaddr=10.0.0.1", false),
            ("host=db hostaddr=127.0.0.1", true),
        ] {
            assert_eq!(stays_here(&words.parse().unwrap()), stays, "{words}");
        }
    }
}
