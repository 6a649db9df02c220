-- Deletes rows of the parts $3 of round $2 of lane $1, but for those in which somebody answered, and those that anybody has locked since they were
-- written: keep_locked_rows.sql keeps these in mind. So it waits for nobody. How many, by part. Asked once for rows of
-- the page and once for those who were late, as in rows_of_parts.sql.
-- Locks: the rows.
-- Index: the primary key of round_part, and our unique index of the feedback table, by its own collation and predicate.
with gone as (
  delete from {feedback} using {of}
  where p.part = any($3) and {condition} and feedback is null and xmax = 0
  returning p.part)
select part, count(*) as rows from gone group by part
