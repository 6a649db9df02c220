-- What a dead letter takes, so that none has to be read to know; and what of its record was too large to be kept, or could not be read.
alter table dinnerbell.dead_letter
    add column bytes int8,               -- of key, value, headers and what goes with them; null for letters of earlier versions
    add column left_out text,            -- the parts that are not kept, of key,value,headers; null where all is
    add column value_size int8,          -- of a value that is not kept
    add column value_sha256 bytea;
