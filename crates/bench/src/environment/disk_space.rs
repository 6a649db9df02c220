//! Whether the disk has room for what is to be measured.

use std::path::PathBuf;

use crate::environment::{Ground, few};
use crate::error::BenchError;
use dinnerbell_postgres::connect::Pool;

/// What a draft takes on the disks while it is measured, generously: its subscriber, its rows and their indexes, its messages.
const OF_A_DRAFT: u64 = 1_200;
/// What PostgreSQL's log of changes takes besides.
const LOG_OF_CHANGES: u64 = 1 << 30;
/// Below this number of drafts nobody asks.
const SMALL: usize = 1_000_000;

impl Ground<'_> {
    /// Fails where it can be seen that this number of drafts does not fit: the disk of a PostgreSQL on this machine is full.
    pub async fn room_for(&self, drafts: usize) -> Result<(), BenchError> {
        if drafts <= SMALL {
            return Ok(());
        }
        let Some((folder, free)) = self.free().await? else { return Ok(()) };
        let wanted = wanted(drafts);
        if free >= wanted {
            return Ok(());
        }
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        Err(BenchError::Failed(format!(
            "{drafts} drafts want about {:.0} GB of disk for both servers; {} has {:.0} GB free: make room, or choose a smaller audience",
            gigabytes(wanted),
            folder.display(),
            gigabytes(free)
        )))
    }

    /// The free space where PostgreSQL keeps its data, if that is on this machine and this role may know it.
    async fn free(&self) -> Result<Option<(PathBuf, u64)>, BenchError> {
        let pool = Pool::open(&few(&self.config.feedback), "feedback")?;
        // Empty for roles that may not see it, for which current_setting() fails. A connection without address is a socket.
        let sql = "select coalesce((select setting from pg_settings where name = 'data_directory'), '') \
                   where coalesce(inet_server_addr() <<= '127.0.0.0/8' or inet_server_addr() = '::1', true)";
        let rows = pool.query(sql, &[]).await?;
        let folder: Option<String> = rows.first().map(|row| row.get(0)).filter(|folder: &String| !folder.is_empty());
        let found = folder.map(PathBuf::from).and_then(|folder| {
            let space = rustix::fs::statvfs(&folder).ok()?;
            Some((folder, space.f_bavail.saturating_mul(space.f_frsize)))
        });
        Ok(found)
    }
}

fn wanted(drafts: usize) -> u64 {
    LOG_OF_CHANGES + drafts as u64 * OF_A_DRAFT
}
