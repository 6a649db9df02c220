-- Writes the parts of a round.
-- Locks: the new rows.
-- Index: none is asked.
insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, after_client, upto_client,
  last_page, already_told, skipped, late, drafts, checksum)
select $2, $3, part, id, revision, has_page, after, upto, last, array(select json_array_elements_text(already_told)), skipped,
  array(select json_array_elements_text(late)), drafts, checksum
from {parts_of_round}
