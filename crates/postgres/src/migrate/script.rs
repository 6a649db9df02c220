//! The SQL as text: the tables of the seed, and the whole of `migrate` for those who run it by hand.

use super::index::Wanted;
use super::ledger::{TABLE, migrations, migrations_table_sql};
use crate::predicate::short_enough;
use dinnerbell_config::{Config, TableName};

/// One of the two tables that exist before this service does.
pub(super) struct SeedTable {
    columns: &'static str,
    constraint: &'static str,
    usual_name: &'static str,
}

/// Who favours which restaurant.
pub(super) const SUBSCRIBERS: SeedTable = SeedTable {
    columns: "
    id serial4 not null,
    client_id varchar not null,
    restaurant_id varchar not null",
    constraint: "pk_id",
    usual_name: "subscribers_restaurants",
};

/// Who was told what, and said what.
pub(super) const FEEDBACK: SeedTable = SeedTable {
    columns: "
    id serial4 not null,
    restaurant_id text not null,
    adv_campaign_id text not null,
    adv_campaign_content text not null,
    adv_campaign_owner text not null,
    adv_campaign_owner_contact text not null,
    adv_campaign_datetime_start int8 not null,
    adv_campaign_datetime_end int8 not null,
    datetime_created int8 not null,
    client_id text not null,
    trigger_datetime_created int4 not null,
    feedback varchar null",
    constraint: "id_pk",
    usual_name: "subscribers_feedback",
};

impl SeedTable {
    /// The statement that makes it. The primary key has its usual name on the usual table only: a name is taken once in a schema.
    pub(super) fn sql(&self, table: &TableName) -> String {
        let name =
            if table.table == self.usual_name { format!("constraint {} ", self.constraint) } else { String::new() };
        format!("create table if not exists {} ({},\n    {name}primary key (id)\n)", table.sql(), self.columns)
    }
}

/// Counts the pairs that a unique index would refuse.
pub(super) fn count_duplicates(feedback: &str) -> String {
    format!(
        "select count(*) from (select from {feedback} \
         where {} group by adv_campaign_id collate \"C\", client_id collate \"C\" having count(*) > 1) pairs",
        short_enough("adv_campaign_id")
    )
}

/// Everything that `migrate` would do to databases in which nothing of it is there yet, as a script for psql.
pub fn script(config: &Config, create_tables: bool) -> String {
    let (feedback, subscribers) = (&config.feedback.table, &config.subscribers.table);
    let mut text = String::from(
        "-- What `dinnerbell migrate` does where nothing of it is there yet, for psql (it must not run in one transaction: indexes are\n\
         -- built concurrently). `dinnerbell migrate` looks first and leaves alone what is there, also after this script.\n\n\
         -- 1. In the database of [feedback]\n\n",
    );
    if create_tables {
        text += &format!("{};\n\n", FEEDBACK.sql(feedback));
    }
    text += "begin;\ncreate schema if not exists dinnerbell;\n";
    text += &format!("{}\n", migrations_table_sql());
    for migration in migrations() {
        text += &format!("\n-- {migration}\n{}\n", migration.sql().unwrap_or_default().trim_end());
        text += &format!(
            "insert into {TABLE} (version, name, applied_on, checksum) values ({}, '{}', \
             to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{}');\n",
            migration.version(),
            migration.name(),
            migration.checksum()
        );
    }
    text += &format!(
        "commit;\n\n\
         -- Fails if a (campaign, client) has more than one row; how many have:\n-- {};\n\
         -- (on a partitioned table let `dinnerbell migrate` do it: partition by partition, then attached)\n{};\n\n\
         -- 2. In the database of [subscribers]\n\n",
        count_duplicates(&feedback.sql()),
        Wanted::once().statement(feedback)
    );
    if create_tables {
        text += &format!("{};\n\n", SUBSCRIBERS.sql(subscribers));
    }
    text += &format!("{};\n{};\n", Wanted::audience().statement(subscribers), Wanted::skipped().statement(subscribers));
    text
}
