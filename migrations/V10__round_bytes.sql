-- Most bytes of a lane's round, where its owners met a link that carries no more: null where no link is slow. The next owner begins with it.
alter table dinnerbell.lane add column round_bytes int8;
