//! What several statements say alike: the rules and expressions that are in them by name. In a file of SQL they are `{open}` or
//! `{state_after($6)}`, and [`named`] gives their text.

use crate::clock::CLOCK_MICROS;
use crate::predicate::{of_campaign, short_enough, too_long};
use crate::table_identity::is_known;
use dinnerbell_core::model::draft::FEEDBACK_COLUMNS;
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;

/// The current second by the feedback database's clock; never `now()`, which stands still in a transaction.
pub const NOW: &str = "floor(extract(epoch from clock_timestamp()))::int8";
/// The same, read once for a whole statement: so an index can be asked by it.
pub const NOW_ONCE: &str = "(select floor(extract(epoch from clock_timestamp()))::int8)";
/// Whether a campaign is open: the one rule ([`dinnerbell_core::model::campaign::Window::is_open`]), as the ledger asks it.
pub const OPEN: &str = "(state <> 'cancelled' and adv_campaign_datetime_start <= floor(extract(epoch from clock_timestamp()))::int8 \
                    and adv_campaign_datetime_end > floor(extract(epoch from clock_timestamp()))::int8)";
/// Campaigns whose rescan is due: those that had a page, while they are open.
pub const RESCAN_IS_DUE: &str = "state in ('active', 'complete') and (cursor is not null or last_page_seq is not null)";
/// Campaigns are locked in the order of their ids, by everyone. Which are locked is for another index to say: so it is no column to the planner.
pub const BY_ID: &str = "adv_campaign_id || ''";
/// When the server was started, in microseconds: tells a fail-over.
pub const POSTMASTER: &str = "(extract(epoch from pg_postmaster_start_time()) * 1000000)::int8";
/// The comparison that stands, beside a row of `dinnerbell.service`. Another server is known by its start, and a restored database by its number.
/// Tables that were restored, or emptied and filled again, are known by their file.
pub const COMPARISON: &str = "(select (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8 || '/' || d.oid || '/' \
     || 'dinnerbell.lane'::regclass::oid || '/' || pg_relation_filenode('dinnerbell.lane') from pg_database d where d.datname = current_database()) || '/' || comparison";
/// The columns that `ledger::campaign` reads.
pub const CAMPAIGN: &str = "adv_campaign_id, restaurant_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, \
                        adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created";
/// Whether a campaign's last page is recorded and not known to be published: `l` is its lane.
const LAST_PAGE_UNPUBLISHED: &str = "(last_page_seq is not null and last_page_seq > coalesce(l.published_seq, -1))";
/// Campaigns that are over, and whose untold audience is counted in the background: as in the index of those that are not counted yet.
pub const COUNTED: &str = "(state in ('expired', 'closed') or (state = 'cancelled' and restaurant_id is not null))";
/// What each statement that writes a lane's row sets with it: the epoch, and the transaction, whose number the row's `xmin` is from then on.
pub const WRITTEN: &str = "written = (epoch << 32) | (txid_current() & 4294967295)";
macro_rules! next_epoch {
    () => {
        "epoch = epoch + 1, written = ((epoch + 1) << 32) | (txid_current() & 4294967295)"
    };
}
/// How a lane's epoch moves.
pub const NEXT_EPOCH: &str = next_epoch!();
/// How a lane is cleared of its halt; the epoch moves, so that its owner takes it over again.
pub const CLEARED: &str = concat!(
    next_epoch!(),
    ", halted = null, halted_found = null, halted_remedy = null, halted_at = null, resolved_at = clock_timestamp()"
);
/// The predicate of our partial unique index: long entries are refused by btree, and our index must not break others' inserts.
pub const SHORT_IDS: &str = "octet_length(adv_campaign_id) <= 256 and octet_length(client_id) <= 256";
/// What a dead letter takes in a round, in bytes. None of it is read for that.
/// Those of earlier versions have no sum.
pub const LETTER_BYTES: &str = "coalesce(bytes, coalesce(octet_length(key), 0)::int8 + least(octet_length(value), 1048576) \
                            + (select coalesce(sum(octet_length(h)), 0) from unnest(header_values) h)::int8 + 1024, 1024)";
/// What a change takes, in bytes.
const CHANGE_SIZE: &str = "(coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) \
                           + (select coalesce(sum(octet_length(h)), 0) from unnest(header_values) h))::int8";
/// Changes that lane `$1` is to apply. Cancellations come first, however many others wait: they stop what should not go out, and nothing that
/// they overtake changes what becomes of the campaign.
pub const WAITING_CHANGES: &str = "select ch.id, ch.from_lane, ch.record_offset, ch.record_timestamp, ch.key, ch.value, ch.header_names, \
                       ch.header_values from dinnerbell.change ch join dinnerbell.campaign c using (adv_campaign_id) \
                       where ch.judged_as is null and c.lane = $1";
/// The headers `$6` to `$8` of raw records, by the place of their record.
const HEADERS_OF_RECORDS: &str = "(select record, array_agg(name order by place) as names, array_agg(value order by place) as vals \
     from unnest($6::int8[], $7::text[], $8::bytea[]) with ordinality as header (record, name, value, place) group by record)";
/// The lane of each row that is still to be withdrawn: a lookup for each, since a join could read all campaigns that there ever were.
pub const LANES_OF_LOCKED_ROWS: &str = "(select (select c.lane from dinnerbell.campaign c where c.adv_campaign_id = r.adv_campaign_id) as lane \
     from dinnerbell.locked_row r)";
/// The parts of a round that is written, from JSON.
const PARTS_OF_ROUND: &str = "json_to_recordset($1) as p (part int4, id text, revision int4, has_page bool, after text, upto text, \
                     last bool, already_told json, skipped int8, late json, drafts int8, checksum int8)";
/// The parts of round `$2` of lane `$1` that hold drafts, beside feedback rows: no column is called as one of those. The id has no collation of its
/// own: that of the column to which it is compared counts.
pub const PARTS_WITH_DRAFTS: &str = "(select part, adv_campaign_id collate \"default\" as id, has_page, coalesce(after_client, '') as behind, upto_client as upto, \
     already_told, late as late_ones from dinnerbell.round_part where lane = $1 and seq = $2 and drafts > 0) as p";
/// A type's name in a query over `pg_type t`; of a domain, the type that it is made of.
pub const BASE_TYPE: &str = "format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null)";

/// The text of a fragment, with its arguments put in; none of a name that is no fragment's.
pub fn named(name: &str, arguments: &[&str]) -> Option<String> {
    let text = match (name, arguments) {
        ("feedback_is_known", [table]) => is_known(table),
        ("untouched", [lane]) => untouched(lane),
        ("of_campaign", [column, id]) => of_campaign(column, id),
        ("micros", [time]) => micros(time),
        ("of_restaurants", [restaurants]) => of_restaurants(restaurants),
        ("state_after", [page]) => state_after(page),
        ("rescan_at", [told]) => rescan_at(told),
        ("named", [client]) => late_by_name(client),
        (_, []) => return plain(name),
        _ => return None,
    };
    Some(text)
}

/// The fragments that take no argument.
fn plain(name: &str) -> Option<String> {
    let text = match name {
        "now" => NOW,
        "now_once" => NOW_ONCE,
        "clock_micros" => CLOCK_MICROS,
        "open" => OPEN,
        "rescan_is_due" => RESCAN_IS_DUE,
        "by_id" => BY_ID,
        "postmaster" => POSTMASTER,
        "comparison" => COMPARISON,
        "campaign" => CAMPAIGN,
        "last_page_unpublished" => LAST_PAGE_UNPUBLISHED,
        "cleared" => CLEARED,
        "written" => WRITTEN,
        "next_epoch" => NEXT_EPOCH,
        "short_ids" => SHORT_IDS,
        "change_size" => CHANGE_SIZE,
        "waiting_changes" => WAITING_CHANGES,
        "lanes_of_locked_rows" => LANES_OF_LOCKED_ROWS,
        "headers_of_records" => HEADERS_OF_RECORDS,
        "parts_of_round" => PARTS_OF_ROUND,
        "parts_with_drafts" => PARTS_WITH_DRAFTS,
        "draft_columns" => FEEDBACK_COLUMNS,
        "base_type" => BASE_TYPE,
        _ => return made(name),
    };
    Some(text.to_owned())
}

/// Those that are made of others.
fn made(name: &str) -> Option<String> {
    let text = match name {
        "held" => held(),
        "starts" => format!("state = 'scheduled' and adv_campaign_datetime_start <= {NOW_ONCE}"),
        "ends" => format!(
            "state in ('active', 'complete') and adv_campaign_datetime_end <= {NOW_ONCE} and not {LAST_PAGE_UNPUBLISHED}"
        ),
        "on_the_page" => on_the_page(),
        "drafts_of_messages" => drafts_of_messages(),
        "short_favourite" => short_enough("restaurant_id"),
        "long_favourite" => too_long(),
        "longest_id" => LONGEST_CLIENT_ID.to_string(),
        _ => return None,
    };
    Some(text)
}

/// Whether all is held: commits may be missing since the server is another one, or because somebody else wrote a lane's row.
pub fn held() -> String {
    let untouched = untouched("any_lane");
    format!(
        "(exists (select from dinnerbell.service where compared <> {COMPARISON}) \
         or exists (select from dinnerbell.lane any_lane where not {untouched}))"
    )
}

/// Whether the row of a lane, `lane` in the statement, is as the service wrote it last. A row that was deleted and inserted again is not, whatever
/// it holds, and neither is one that was changed by hand.
pub fn untouched(lane: &str) -> String {
    format!(
        "coalesce({lane}.written >> 32 <> {lane}.epoch or {lane}.written & 4294967295 = {lane}.xmin::text::int8, true)"
    )
}

/// A time as microseconds since 1970, which [`dinnerbell_core::model::number::Micros`] holds; null where it is null.
pub fn micros(time: &str) -> String {
    format!("(extract(epoch from {time}) * 1000000)::int8")
}

/// The open campaigns of some restaurants: the order that is asked for, though they are all of one restaurant, is in their index alone.
pub fn of_restaurants(restaurants: &str) -> String {
    format!(
        "unnest({restaurants}::text[]) as r (id) cross join lateral (select * from dinnerbell.campaign \
         where restaurant_id between r.id and r.id and state in ('active', 'complete') order by restaurant_id) as campaign"
    )
}

/// When a campaign that was just rescanned is to be rescanned next: in five minutes, and once more so early before its end that the last rescan
/// finishes. A pass rests far more than it works, and still gets through twice as many a second as it is given here.
fn rescan_at(told: &str) -> String {
    let last = format!("(adv_campaign_datetime_end - 30 - ({told}) / 5000)");
    format!("case when {last} > {NOW} then least({NOW} + 300, {last}) end")
}

/// The state of a campaign whose drafts were taken back, with the cursor where `page` says so: as its window has it by now.
fn state_after(page: &str) -> String {
    format!(
        "case when state = 'cancelled' then state \
         when adv_campaign_datetime_end <= {NOW} then case when {page} or last_page_seq is null then 'expired' else 'closed' end \
         when adv_campaign_datetime_start > {NOW} then 'scheduled' \
         when {page} or last_page_seq is null then 'active' else 'complete' end"
    )
}

/// The range of a part's page, less those who had a row before it was read, and less late ones who came into it since. No client has the empty id:
/// after it is from the first on. The column may have a collation of its own, which the arrays do not have.
pub fn on_the_page() -> String {
    format!(
        "{} and {SHORT_IDS} and p.has_page and client_id collate \"C\" > p.behind and client_id collate \"C\" <= p.upto \
         and client_id collate \"C\" <> all(p.already_told) and client_id collate \"C\" <> all(p.late_ones)",
        of_campaign("adv_campaign_id", "p.id")
    )
}

/// A part's late clients by name, one at a time. Given a whole list, the planner may look for each row of the campaign in the list.
pub fn late_by_name(client: &str) -> String {
    let of_campaign = of_campaign("adv_campaign_id", "p.id");
    format!("{of_campaign} and {SHORT_IDS} and client_id collate \"C\" = {client}")
}

/// The late ones of those parts, and their parts. The offset keeps the planner from asking for the campaign's rows first.
pub fn late_ones() -> String {
    format!(
        "(select p.part, p.id, late.client from {PARTS_WITH_DRAFTS}, unnest(p.late_ones) as late (client) offset 0) as p"
    )
}

/// Drafts as their messages say them, one array for each column.
fn drafts_of_messages() -> String {
    format!(
        "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::int8[], $8::int8[], $9::text[], $10::int8[]) \
         as t ({FEEDBACK_COLUMNS})"
    )
}
