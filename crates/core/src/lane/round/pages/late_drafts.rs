//! The drafts of late subscribers: they are added to the parts of a round.

use std::collections::HashMap;

use super::{template, without};
use crate::guard::{Guard, Guards};
use crate::lane::error::LaneError;
use crate::model::clients::Clients;
use crate::model::draft::DraftBatch;
use crate::model::late::{LateCheckCampaign, LateQuery};
use crate::model::number::Seconds;
use crate::model::round::RoundPart;
use crate::ports::ledger::RoundTransaction;

/// Campaigns, each with the candidates of its restaurant.
pub type Candidates<'a> = [(&'a LateCheckCampaign, &'a Clients)];

/// Adds to the round the candidates who are late for a campaign. They are at or before its cursor as this round plans it, on none of the
/// round's pages, and have no draft. However many campaigns these are, the database is asked twice at most.
pub async fn add_late<O: RoundTransaction>(
    open: &mut O,
    parts: &mut Vec<RoundPart>,
    late: &Candidates<'_>,
    trigger_datetime_created: Seconds,
    group_id: &str,
    guards: Guards,
) -> Result<(), LaneError> {
    if late.is_empty() {
        return Ok(());
    }
    let places: HashMap<String, usize> = parts.iter().enumerate().map(|(place, part)| (part.id(), place)).collect();
    let late_clients = {
        let questions = late.iter().map(|&(campaign, clients)| question(campaign, clients, parts, &places, guards));
        let questions: Vec<_> = questions.collect();
        open.late(&questions).await?
    };
    let ids = late.iter().map(|(campaign, _)| campaign.adv_campaign_id.as_str());
    let mut alone = HashMap::new();
    for (id, late_clients) in ids.zip(late_clients).filter(|(_, late_clients)| !late_clients.is_empty()) {
        match places.get(id) {
            Some(place) => add_to(&mut parts[*place], late_clients, guards),
            None => drop(alone.insert(id, late_clients)),
        }
    }
    if alone.is_empty() {
        return Ok(());
    }
    let mut ids: Vec<&str> = alone.keys().copied().collect();
    ids.sort_unstable();
    for running in open.campaigns(&ids).await? {
        let clients = alone.remove(running.id()).unwrap_or_default();
        let template = template(&running, trigger_datetime_created, group_id)?;
        let late = clients.len();
        parts.push(RoundPart {
            drafts: DraftBatch { template, clients },
            revision: running.revision,
            page: None,
            late,
        });
    }
    Ok(())
}

/// Who is late, by the cursor as this round plans it.
pub(super) fn question<'a>(
    campaign: &'a LateCheckCampaign,
    clients: &'a Clients,
    parts: &'a [RoundPart],
    places: &HashMap<String, usize>,
    guards: Guards,
) -> LateQuery<'a> {
    let page = places.get(&campaign.adv_campaign_id).and_then(|place| parts[*place].page.as_ref());
    let (planned_cursor, main_pass_over) = match page {
        Some(page) if guards.enabled(Guard::PlannedCursor) => (page.upto.as_deref(), page.last),
        Some(page) => (page.after.as_deref(), false),
        None => (campaign.cursor.as_deref(), campaign.main_pass_over),
    };
    let main_pass_over = main_pass_over && guards.enabled(Guard::LateAfterTheLastPage);
    LateQuery { adv_campaign_id: &campaign.adv_campaign_id, clients, planned_cursor, main_pass_over }
}

/// Adds to a page those who are late and not on it.
pub(super) fn add_to(part: &mut RoundPart, late_clients: Clients, guards: Guards) {
    let late = match guards.enabled(Guard::NotLateWhoIsOnAPage) {
        true => without(late_clients, &part.drafts.clients),
        false => late_clients,
    };
    part.late = late.len();
    late.iter().for_each(|client| part.drafts.clients.push(client));
}
