-- Who was not told of a cancelled campaign is counted like who was not told of one that expired. One that was cancelled before it arrived has
-- no restaurant, and nobody to count. The strongest lock comes first, so that nobody who waits for this migration is waited for by it; the
-- index holds only what is not counted yet. Campaigns that were cancelled before are counted as their audience stands now.
drop index dinnerbell.campaign_uncounted;
create index campaign_uncounted on dinnerbell.campaign (lane)
    where unsent is null and (state in ('expired', 'closed') or (state = 'cancelled' and restaurant_id is not null));
