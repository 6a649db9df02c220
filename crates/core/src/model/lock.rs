//! Who holds a lock for which the service waits, as far as the database shows it to the service's role: never what they do with it.

use std::fmt;

/// A session whose open transaction holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process on the server; 0 of a prepared transaction, which has none.
    pub pid: i32,
    /// Its role, where it is shown.
    pub role: Option<String>,
    /// What it calls itself; empty where it does not.
    pub application: String,
    /// From where it is connected; none over a socket of the server's machine, or where it is not shown.
    pub address: Option<String>,
    /// Since when its transaction is open, in RFC 3339; none where the service's role may not see it.
    pub since: Option<String>,
    /// The number of its transaction, to know whether that is still open.
    pub transaction: String,
}

impl LockHolder {
    /// What ends its transaction, where nobody else does.
    pub fn remedy(&self) -> String {
        match self.pid {
            0 => "commit prepared or rollback prepared (pg_prepared_xacts names it)".to_owned(),
            pid => format!("have that transaction ended, or end it as a superuser: select pg_terminate_backend({pid})"),
        }
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("a prepared transaction holds the lock");
        }
        write!(f, "backend {} of role {}", self.pid, self.role.as_deref().unwrap_or("?"))?;
        if !self.application.is_empty() {
            // A session may call itself anything.
            let shown: String = self.application.chars().filter(|c| !c.is_control()).take(64).collect();
            write!(f, " (application {shown})")?;
        }
        match (&self.since, &self.address) {
            (Some(since), Some(address)) => {
                write!(f, " at {address} holds the lock; its transaction is open since {since}")
            }
            (Some(since), None) => {
                write!(f, " on the server's machine holds the lock; its transaction is open since {since}")
            }
            (None, _) => {
                f.write_str(" holds the lock; from where and since when is shown to members of pg_read_all_stats alone")
            }
        }
    }
}

/// A lock that did not come in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWait {
    /// What the database said.
    pub found: String,
    /// The relation and the place of the row that is locked, as the database writes them; none where it is another lock.
    pub row: Option<(String, String)>,
    /// Who held it, if that could be asked while it was waited for.
    pub holder: Option<LockHolder>,
    /// The campaigns of a round that it was about, where they are known.
    pub campaigns: Vec<LockedCampaign>,
}

/// A campaign that a round cannot be recorded with, as somebody else holds a lock on what it would write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedCampaign {
    /// Its id.
    pub adv_campaign_id: String,
    /// Its restaurant.
    pub restaurant_id: String,
}

impl fmt::Display for LockWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        if let Some((relation, _)) = &self.row {
            write!(f, "; it is about a row of {relation}")?;
        }
        match &self.holder {
            Some(holder) => write!(f, "; {holder}; {}", holder.remedy()),
            None => f.write_str("; who holds the lock is not known"),
        }
    }
}

/// Which part of a lane's work waits for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockedPart {
    /// Rows of withdrawn drafts: nothing else waits for them.
    Rows,
    /// A round, or the last recorded one.
    Round,
    /// The lane itself.
    Lane,
}

impl LockedPart {
    /// Its name, as the ledger has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Round => "round",
            Self::Lane => "lane",
        }
    }
}

/// Rows of withdrawn drafts that somebody's open transaction had locked: what became of some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockedRows {
    /// How many there are still in the lane.
    pub left: u64,
    /// Rows that are gone by now.
    pub gone: u64,
    /// Rows that stay, because somebody answered in them.
    pub kept: u64,
    /// Whether it waited for a lock in vain: none of them was withdrawn, and fewer are to be tried at once.
    pub waited: bool,
    /// The campaign and client after which the others are; none where these were the last.
    pub next: Option<(String, String)>,
    /// Who has one of them locked, where it can be known.
    pub holder: Option<LockHolder>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> LockHolder {
        LockHolder {
            pid: 7,
            role: Some("analyst".to_owned()),
            application: "psql".to_owned(),
            address: Some("10.0.0.9".to_owned()),
            since: Some("2026-11-27T12:00:00Z".to_owned()),
            transaction: "3/17".to_owned(),
        }
    }

    #[test]
    fn a_holder_is_named_with_what_the_role_may_see_and_with_what_ends_it() {
        let told = LockWait { found: "canceling".to_owned(), row: None, holder: Some(holder()), campaigns: Vec::new() }
            .to_string();
        assert_eq!(
            told,
            "canceling; backend 7 of role analyst (application psql) at 10.0.0.9 holds the lock; its transaction is open since \
             2026-11-27T12:00:00Z; have that transaction ended, or end it as a superuser: select pg_terminate_backend(7)"
        );
        let hidden = LockHolder { since: None, address: None, ..holder() }.to_string();
        assert!(hidden.contains("role analyst") && hidden.contains("pg_read_all_stats"), "{hidden}");
        let prepared = LockHolder { pid: 0, ..holder() };
        assert!(prepared.to_string().contains("prepared") && prepared.remedy().contains("rollback prepared"));
    }
}
