//! The rights that the service needs, and apart from them those of the operators who give orders, as statements for those who give them. A test
//! gives exactly these to new users, and runs the service and the commands as them.

use std::fmt::Write;

use dinnerbell_config::{Config, Database, Kafka, Sasl, TableName};

/// The operators' user where none is named.
pub const OPERATOR: &str = "dinnerbell_operator";

/// Stands for the user where the token says who logs in: brokers usually take its claim sub.
const OF_THE_TOKEN: &str = "SUB_OF_THE_TOKEN";

/// All rights: the service's, for the users that the configuration names, and the operators', for the user of this name. `sequence` gives the
/// feedback rows their ids.
pub fn script(config: &Config, sequence: Option<&str>, operator: &str) -> String {
    let mut text = String::new();
    postgres(config, sequence, &mut text);
    operators_postgres(config, operator, &mut text);
    kafka(&config.kafka, &mut text);
    operators_kafka(&config.kafka, operator, &mut text);
    text
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
        "-- The service, in the feedback database, after `dinnerbell migrate` ran there as the owner of the table (it makes the schema dinnerbell and an\n\
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
    text.push_str("\n-- The service, in the subscribers database\n");
    let reader = role(subscribers);
    line(text, format!("grant connect on database {} to {reader}", name(subscribers)));
    line(text, format!("grant usage on schema {} to {reader}", quoted(&subscribers.table.schema)));
    line(text, format!("grant select on table {} to {reader}", subscribers.table.sql()));
}

/// Anyone who gives orders has the service's rights in the databases: to resolve a lane is to take it over, and to end what is under way in it.
fn operators_postgres(config: &Config, operator: &str, text: &mut String) {
    let operator = quoted(operator);
    text.push_str(
        "\n-- The operators' commands, in both databases, with a login of their own: they do what the service does, and may end what it has under way.\n",
    );
    let (writer, reader) = (role(&config.feedback), role(&config.subscribers));
    text.push_str(&format!("grant {writer} to {operator};\n"));
    if reader != writer {
        text.push_str(&format!("grant {reader} to {operator};\n"));
    }
}

/// Topic, group and transactional id, each with the operations on it.
fn kafka(kafka: &Kafka, text: &mut String) {
    let user = match &kafka.sasl {
        None => "ANONYMOUS",
        Some(Sasl::Password { username, .. }) => username,
        Some(Sasl::Token(_)) => OF_THE_TOKEN,
    };
    let topics = &kafka.topics;
    text.push_str(
        "\n# Of Kafka, the service: it may neither send campaigns nor read drafts. Describe comes with Read and Write. DescribeConfigs lets it know how\n\
         # large a message may be.\n",
    );
    let mut add = |operations: &[&str], on: String| acl(kafka, user, operations, &on, text);
    add(&["Read", "DescribeConfigs"], format!("--topic {}", shell(&topics.campaigns)));
    add(&["Write", "DescribeConfigs"], format!("--topic {}", shell(&topics.notifications)));
    if let Some(letters) = &topics.dead_letters {
        add(&["Write", "DescribeConfigs"], format!("--topic {}", shell(letters)));
    }
    add(&["Read"], format!("--group {}", shell(&kafka.group_id)));
    add(&["Write"], transactional_ids(kafka));
}

/// The same for those who give orders.
fn operators_kafka(kafka: &Kafka, operator: &str, text: &mut String) {
    let topics = &kafka.topics;
    text.push_str(
        "\n# Of Kafka, the operators: `campaign send` and `dead-letter replay` write campaigns, `verify` and `lane resolve --from-kafka` read drafts.\n",
    );
    let mut add = |operations: &[&str], on: String| acl(kafka, operator, operations, &on, text);
    add(&["Read", "Write", "DescribeConfigs"], format!("--topic {}", shell(&topics.campaigns)));
    add(&["Read", "DescribeConfigs"], format!("--topic {}", shell(&topics.notifications)));
    if let Some(letters) = &topics.dead_letters {
        add(&["Describe", "DescribeConfigs"], format!("--topic {}", shell(letters)));
    }
    add(&["Read"], format!("--group {}", shell(&kafka.group_id)));
    add(&["Write"], transactional_ids(kafka));
}

fn transactional_ids(kafka: &Kafka) -> String {
    let ids = format!("{}/{}/", kafka.group_id, kafka.topics.campaigns);
    format!("--transactional-id {} --resource-pattern-type prefixed", shell(&ids))
}

fn acl(kafka: &Kafka, user: &str, operations: &[&str], on: &str, text: &mut String) {
    let operations: Vec<String> = operations.iter().map(|operation| format!("--operation {operation}")).collect();
    let _ = writeln!(
        text,
        "kafka-acls.sh --bootstrap-server {} --add --allow-principal {} {} {on}",
        shell(&kafka.bootstrap_servers),
        shell(&format!("User:{user}")),
        operations.join(" ")
    );
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
