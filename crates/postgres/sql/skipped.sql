-- Counts the clients of a restaurant that are in no page.
-- Locks: none.
-- Index: each half has its own, dinnerbell_skipped and dinnerbell_audience of the subscribers table.
select (select count(distinct client_id) from {subscribers}
        where restaurant_id = {restaurant} and {long_favourite})
  + (select count(distinct client_id) from {subscribers}
     where restaurant_id = {restaurant} and client_id collate "C" = '' and {short_favourite})
