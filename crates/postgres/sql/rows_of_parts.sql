-- Reads feedback rows of round $2 of lane $1, at most so many of each part: {part} of the part, {columns} of the rows. Those of a page and
-- those who were late are two questions: joined by an `or`, all that the campaign ever told would be read where the statistics are old.
-- Locks: none.
-- Index: the primary key of round_part, and our unique index of the feedback table, by its own collation and predicate.
select {part}, draft.*
from {parts_with_drafts}
cross join lateral (
  select {columns} from {feedback} where {on_the_page}
  union all
  select told.* from unnest(p.late_ones) as late (client)
  cross join lateral (select {columns} from {feedback} where {named(late.client)} offset 0) as told{limit}) as draft
