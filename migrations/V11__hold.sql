-- In which comparison with Kafka every lane was found whole, and in which each lane was: where it is not the one that stands, nothing is sent and
-- nothing is taken in. Null until a version that compares has entered every lane.
alter table dinnerbell.service
    add column if not exists comparison int8 not null default 0,
    add column if not exists compared text;
alter table dinnerbell.lane add column if not exists compared text;
