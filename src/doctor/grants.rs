//! The rights that the service needs, as statements for those who give them. A test gives exactly these to new users, and runs the service
//! as them.

use std::fmt::Write;

use tokio_postgres::types::Type;

use crate::config::{Config, Database, Kafka, TableName};
use crate::postgres::connect::Pool;
use crate::postgres::errors::PostgresError;

/// All rights, for the users that the configuration names. `sequence` gives the feedback rows their ids.
pub fn script(config: &Config, sequence: Option<&str>) -> String {
    let mut text = String::new();
    postgres(config, sequence, &mut text);
    kafka(&config.kafka, &mut text);
    text
}

/// The sequence that gives the feedback rows their ids, quoted; none where the ids come otherwise (an identity).
pub async fn sequence(pool: &Pool) -> Result<Option<String>, PostgresError> {
    let sql = "select format('%I.%I', n.nspname, s.relname) from pg_attrdef f \
               join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass \
               join pg_class s on s.oid = d.refobjid and s.relkind = 'S' join pg_namespace n on n.oid = s.relnamespace \
               where f.adrelid = to_regclass($1)";
    let rows = pool.query(sql, &[(&pool.table().sql(), Type::TEXT)]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// The sequence of a `serial4` column, by its usual name.
pub fn usual_sequence(table: &TableName) -> String {
    TableName { schema: table.schema.clone(), table: format!("{}_id_seq", table.table) }.sql()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn role(database: &Database) -> String {
    quoted(database.connection.get_user().unwrap_or("dinnerbell"))
}

fn name(database: &Database) -> String {
    let user = database.connection.get_user().unwrap_or("dinnerbell");
    quoted(database.connection.get_dbname().unwrap_or(user))
}

fn postgres(config: &Config, sequence: Option<&str>, text: &mut String) {
    let (feedback, subscribers) = (&config.feedback, &config.subscribers);
    let writer = role(feedback);
    let line = |text: &mut String, statement: String| text.push_str(&(statement + ";\n"));
    text.push_str(
        "-- Of the feedback database, after `dinnerbell migrate` ran there as the owner of the table (it makes the schema dinnerbell and an\n\
         -- index, which no right but ownership allows). Again after each migration.\n",
    );
    line(text, format!("grant connect on database {} to {writer}", name(feedback)));
    line(text, format!("grant usage on schema {} to {writer}", quoted(&feedback.table.schema)));
    line(text, format!("grant select, insert, delete on table {} to {writer}", feedback.table.sql()));
    if let Some(sequence) = sequence {
        line(text, format!("grant usage on sequence {sequence} to {writer}"));
    }
    line(text, format!("grant usage on schema dinnerbell to {writer}"));
    line(text, format!("grant select, insert, update, delete on all tables in schema dinnerbell to {writer}"));
    text.push_str("\n-- Of the subscribers database\n");
    let reader = role(subscribers);
    line(text, format!("grant connect on database {} to {reader}", name(subscribers)));
    line(text, format!("grant usage on schema {} to {reader}", quoted(&subscribers.table.schema)));
    line(text, format!("grant select on table {} to {reader}", subscribers.table.sql()));
}

/// Topic, group and transactional id, each with the operations on it.
fn kafka(kafka: &Kafka, text: &mut String) {
    let user = kafka.sasl.as_ref().map_or("ANONYMOUS", |sasl| sasl.username.as_str());
    let topics = &kafka.topics;
    text.push_str(
        "\n# Of Kafka. Describe comes with Read and Write. DescribeConfigs lets the service know how large a message may be; the operators'\n\
         # commands `verify`, `lane resolve --from-kafka` read the topic of drafts, `campaign send` and `dead-letter replay` write campaigns.\n",
    );
    let mut add = |operations: &[&str], on: String| {
        let operations: Vec<String> = operations.iter().map(|operation| format!("--operation {operation}")).collect();
        let _ = writeln!(
            text,
            "kafka-acls.sh --bootstrap-server {} --add --allow-principal {} {} {on}",
            shell(&kafka.bootstrap_servers),
            shell(&format!("User:{user}")),
            operations.join(" ")
        );
    };
    add(&["Read", "Write", "DescribeConfigs"], format!("--topic {}", shell(&topics.campaigns)));
    add(&["Read", "Write", "DescribeConfigs"], format!("--topic {}", shell(&topics.notifications)));
    if let Some(letters) = &topics.dead_letters {
        add(&["Write", "DescribeConfigs"], format!("--topic {}", shell(letters)));
    }
    add(&["Read"], format!("--group {}", shell(&kafka.group_id)));
    let ids = format!("{}/{}/", kafka.group_id, topics.campaigns);
    add(&["Write"], format!("--transactional-id {} --resource-pattern-type prefixed", shell(&ids)));
}

/// One word for a shell.
fn shell(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:,@".contains(c);
    match !word.is_empty() && word.chars().all(harmless) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_are_quoted_where_they_must_be() {
        assert_eq!(shell("promo.in"), "promo.in");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("$(reboot)"), "'$(reboot)'");
    }
}
