-- Deletes rows of the parts $3 of round $2 of lane $1, and counts them by part. Rows in which somebody answered stay. So do rows that somebody has
-- locked since they were written, which keep_locked_rows.sql records: so it waits for nobody. It runs once for the rows of the page and once for
-- those of late subscribers, as in rows_of_parts.sql.
-- Locks: the rows.
-- Index: the primary key of round_part, and our unique index of the feedback table, by its own collation and predicate.
with gone as (
  delete from {feedback} using {of}
  where p.part = any($3) and {condition} and feedback is null and xmax = 0
  returning p.part)
select part, count(*) as rows from gone group by part
