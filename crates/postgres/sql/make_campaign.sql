-- Makes a campaign that the ledger does not know from its newest draft.
-- Locks: the new row.
-- Index: the primary key of campaign.
insert into dinnerbell.campaign (lane, state, received_at, {campaign})
values ($1, $2, to_timestamp($3), $4, $5, $6, $7, $8, $9, $10, $11)
on conflict do nothing
