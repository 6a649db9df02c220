-- Makes rows that say something else than their messages what their messages say.
-- Locks: the rows.
-- Index: our unique index of the feedback table.
update {feedback} f set restaurant_id = t.restaurant_id, adv_campaign_content = t.adv_campaign_content,
  adv_campaign_owner = t.adv_campaign_owner, adv_campaign_owner_contact = t.adv_campaign_owner_contact,
  adv_campaign_datetime_start = t.adv_campaign_datetime_start, adv_campaign_datetime_end = t.adv_campaign_datetime_end,
  datetime_created = t.datetime_created, trigger_datetime_created = t.trigger_datetime_created
from {drafts_of_messages}
where {of_campaign(f.adv_campaign_id, t.adv_campaign_id)} and f.client_id collate "C" = t.client_id
  and octet_length(f.adv_campaign_id) <= 256 and octet_length(f.client_id) <= 256
  and (f.datetime_created, f.trigger_datetime_created) <> (t.datetime_created, t.trigger_datetime_created)
