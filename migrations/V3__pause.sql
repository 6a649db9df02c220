-- Why all sending is paused, and who resumed it last.
alter table dinnerbell.service
    add column paused_reason text,
    add column resumed_at timestamptz,
    add column resumed_by text;
