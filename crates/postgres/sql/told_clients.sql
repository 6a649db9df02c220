-- Reads the next clients who have a feedback row of a campaign, behind a client, in the order of their ids.
-- Locks: none.
-- Index: our unique index of the feedback table.
select distinct client_id::text collate "C" from {feedback}
where {of_campaign(adv_campaign_id, $1)} and client_id collate "C" > $2 and {short_ids}
order by 1 limit $3
