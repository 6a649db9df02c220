-- A dead letter that is being sent once more: claimed before, released when its fate is known. One that stays claimed is in doubt.
alter table dinnerbell.dead_letter
    add column replay_claimed_at timestamptz,
    add column replay_claimed_by text,
    add column replay_run uuid;
