//! Drafts whose rows are missing, on disk until they are written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};

use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_postgres::ledger::resolve::Restored;

/// Drafts whose rows are missing, in a temporary file without a name: there may be many.
pub(super) struct Spool {
    file: BufWriter<File>,
    pub(super) drafts: u64,
    pub(super) campaigns: BTreeMap<String, Restored>,
}

impl Spool {
    /// An empty one. Fails where the temporary folder cannot be written.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile()?), drafts: 0, campaigns: BTreeMap::new() })
    }

    /// Adds a draft, and what the topic says of its campaign.
    pub(super) fn push(&mut self, draft: &FoundDraft<'static>) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, draft)?;
        self.file.write_all(b"\n")?;
        self.drafts += 1;
        let formed = draft.trigger_datetime_created;
        match self.campaigns.get_mut(&*draft.adv_campaign_id) {
            Some(known) => {
                known.first = known.first.min(formed);
                known.last = known.last.max(formed);
                if known.newest.datetime_created < draft.datetime_created {
                    known.newest = draft.clone();
                }
            }
            None => {
                let restored = Restored { newest: draft.clone(), first: formed, last: formed };
                self.campaigns.insert(draft.adv_campaign_id.clone().into_owned(), restored);
            }
        }
        Ok(())
    }

    /// The drafts from the first on.
    pub(super) fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<FoundDraft<'static>>>> {
        self.file.flush()?;
        let mut file = self.file.get_ref().try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let lines = BufReader::new(file).lines();
        Ok(lines.map(|line| Ok(serde_json::from_str::<FoundDraft<'_>>(&line?)?.into_owned())))
    }
}
