-- Reads open campaigns of a lane, of those in {from}, which {which} picks and orders.
-- Locks: none; it reads only.
-- Index: the one that {which} or {from} names: campaign_ends, campaign_repass or campaign_of_restaurant.
select revision, cursor, last_page_seq is not null as main_pass_over, told + kept as told_and_kept, {campaign}
from {from}
where lane = $1 and state in ('active', 'complete') and {open} and {which}
