-- When both sinks were compared last: few of the orders are that, and the latest of them is asked for.
create index if not exists audit_verified on dinnerbell.audit (id) where what = 'verified';
