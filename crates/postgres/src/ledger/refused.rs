//! Why the feedback table refused a round's rows, or took fewer than it was sent. The operator learns the trigger, the constraint or the sequence,
//! and the campaigns that it was about.

use crate::connect::{Connection, Pool};
use crate::errors::PostgresError;
use crate::hooks::{Hooks, names};
use crate::sequence;
use dinnerbell_core::model::round::RoundContent;

/// How many campaigns are named.
const NAMED: usize = 10;

/// Adds to what a copy, or the commit behind it, was refused with what is known beside it. What cannot be looked at is not added.
pub(super) async fn explain(pool: &Pool, error: PostgresError, content: &RoundContent) -> PostgresError {
    let class = error.code().map(|code| code.code()[..2].to_owned()).unwrap_or_default();
    // Of a constraint, a value, or what a trigger raised: one row was refused, and not the table.
    if error.is_of_our_index() || !["22", "23", "P0"].contains(&class.as_str()) {
        return error;
    }
    if error.code().is_some_and(|code| code.code() == "23505")
        && error.to_string().contains("(id)=(")
        && let Ok(Some(sequence)) = sequence::of_ids(pool).await
        && sequence.ahead.is_some()
    {
        let told = format!("the sequence {} is behind the ids that are there", sequence.name);
        let remedy = format!("as the owner of the sequence: {}", sequence.catch_up(pool));
        return error.adding(&told).mended_by(remedy);
    }
    let away = take_away(pool, error.constraint(), class == "P0").await;
    let first = campaigns(content).next().unwrap_or_default().to_owned();
    let several = campaigns(content).nth(1).is_some();
    let id = if several { "ID".to_owned() } else { word(&first) };
    let remedy = format!("cancel the campaign whose draft it is (dinnerbell campaign cancel {id}), or {away}");
    of_campaigns(error, content).adding("whose draft it is stands in the database server's log").mended_by(remedy)
}

/// Names the campaigns that an error is about.
pub(super) fn of_campaigns(error: PostgresError, content: &RoundContent) -> PostgresError {
    let mut named: Vec<&str> = campaigns(content).take(NAMED).collect();
    named.dedup();
    let more = campaigns(content).count().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    error.adding(&format!("the round is of campaign {}{more}", named.join(", ")))
}

/// The server took fewer rows than it was sent, and reported nothing.
pub(super) async fn left_out(
    connection: &Connection,
    pool: &Pool,
    sent: u64,
    taken: u64,
) -> Result<PostgresError, PostgresError> {
    let hooks = Hooks::read(connection, &pool.table().sql()).await?.before_insert;
    let address = pool.address();
    let (who, remedy) = match hooks.first() {
        Some(hook) => (names(&hooks), hook.remove()),
        None => ("something in it".to_owned(), "look for what leaves out rows of it".to_owned()),
    };
    let text = format!("{address}: table {} took {taken} of {sent} rows: {who} leaves rows out", pool.table());
    Ok(PostgresError::refused(text).mended_by(remedy))
}

fn campaigns(content: &RoundContent) -> impl Iterator<Item = &str> {
    let with_drafts = content.parts.iter().filter(|part| !part.drafts.clients.is_empty());
    with_drafts.map(|part| part.drafts.template.campaign().adv_campaign_id.as_str())
}

/// How to take a constraint, or the trigger that raised an error, out of the way, as far as it is known.
async fn take_away(pool: &Pool, constraint: Option<&str>, raised: bool) -> String {
    let unknown = || "let the table take it".to_owned();
    let looked = async {
        let tx = pool.begin("").await?;
        let hooks = Hooks::read(&tx, &pool.table().sql()).await?;
        tx.commit().await?;
        Ok::<_, PostgresError>(hooks)
    };
    let hooks = looked.await.unwrap_or_default();
    let Some(constraint) = constraint else {
        let trigger = hooks.before_insert.iter().chain(&hooks.after).find(|_| raised);
        return trigger.map_or_else(unknown, |hook| format!("let trigger {} take it, or {}", hook.name, hook.remove()));
    };
    let named = hooks.constraints.iter().find(|hook| hook.name.trim_matches('"').ends_with(constraint));
    named.map_or_else(unknown, |hook| format!("take the constraint away: {}", hook.remove()))
}

/// One word for a shell.
fn word(text: &str) -> String {
    let harmless = |c: char| c.is_alphanumeric() || "-_./:,@".contains(c);
    match !text.is_empty() && text.chars().all(harmless) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
