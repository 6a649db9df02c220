-- Keeps an order, in the transaction in which it is carried out.
-- Locks: none.
-- Index: none is looked into.
insert into dinnerbell.audit (who, what, subject, subject_id, details, origin, host) values ($1, $2, $3, $4, $5, $6, $7)
