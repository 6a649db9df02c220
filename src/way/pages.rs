//! The next page of each planned campaign, less those who already have a draft.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Deps, LaneError};
use crate::audience::{Audience, Page};
use crate::campaign::EpochSeconds;
use crate::draft::{Clients, DraftBatch, DraftTemplate};
use crate::ledger::{Ledger, OpenRound, PageRange, RoundPart, Running};

/// Pages that are read at once.
const PAGES_AT_ONCE: usize = 4;

/// Reads the next page of each share, in the order of the shares.
pub async fn read<B, L, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    shares: Vec<(Running, usize)>,
) -> Result<Vec<(Running, Page)>, LaneError> {
    let read = |(running, rows): (Running, usize)| async move {
        let page = deps.audience.page(&running.campaign.restaurant_id, running.cursor.as_deref(), rows).await?;
        Ok::<_, LaneError>((running, page))
    };
    stream::iter(shares).map(read).buffered(PAGES_AT_ONCE).try_collect().await
}

/// Forms the drafts of a page: all but those who have a feedback row already.
pub async fn form<O: OpenRound>(
    open: &mut O,
    running: &Running,
    page: Page,
    trigger_datetime_created: EpochSeconds,
    group_id: &str,
) -> Result<RoundPart, LaneError> {
    let upto = page.clients.last().map(str::to_owned);
    let told = match &upto {
        Some(upto) => open.already_told(&running.campaign.adv_campaign_id, running.cursor.as_deref(), upto).await?,
        None => Clients::new(),
    };
    let clients = without(page.clients, &told);
    let template = DraftTemplate::new(Arc::clone(&running.campaign), trigger_datetime_created, group_id)
        .map_err(|error| crate::ledger::LedgerError::Refused(error.to_string()))?;
    Ok(RoundPart {
        drafts: DraftBatch { template: Arc::new(template), clients },
        revision: running.revision,
        page: Some(PageRange {
            after: running.cursor.clone(),
            upto: upto.or_else(|| running.cursor.clone()),
            last: page.last,
            already_told: told.iter().map(str::to_owned).collect(),
            skipped: page.skipped,
        }),
        late: 0,
    })
}

/// Counts who favours the restaurant of an ended campaign and has no draft.
pub async fn count_untold<B, L: Ledger, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    restaurant_id: &str,
    adv_campaign_id: &str,
    rows: usize,
) -> Result<u64, LaneError> {
    let (mut cursor, mut untold) = (None::<String>, 0);
    loop {
        let page = deps.audience.page(restaurant_id, cursor.as_deref(), rows).await?;
        if let Some(upto) = page.clients.last().map(str::to_owned) {
            let told = deps.ledger.already_told(adv_campaign_id, cursor.as_deref(), &upto).await?;
            untold += without(page.clients, &told).len() as u64;
            cursor = Some(upto);
        }
        if page.last {
            return Ok(untold);
        }
    }
}

/// The clients that are not among those told. Usually nobody is, and nothing is copied then.
fn without(clients: Clients, told: &Clients) -> Clients {
    if told.is_empty() {
        return clients;
    }
    let told: std::collections::HashSet<&str> = told.iter().collect();
    clients.iter().filter(|client| !told.contains(client)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_were_told_are_left_out_and_the_order_stays() {
        let page: Clients = ["a", "b", "c", "d"].into_iter().collect();
        let told: Clients = ["b", "d", "x"].into_iter().collect();
        assert_eq!(without(page, &told).iter().collect::<Vec<_>>(), ["a", "c"]);
    }
}
