//! How much a round may hold.

/// How many drafts a round may hold, and how many bytes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundCapacity {
    /// Drafts.
    pub rows: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl RoundCapacity {
    /// Nothing fits.
    pub const NOTHING: Self = Self { rows: 0, bytes: 0 };

    /// Returns the capacity for this many drafts, however large they are.
    pub fn rows_only(rows: usize) -> Self {
        Self { rows, bytes: usize::MAX }
    }

    /// Returns how many drafts of this size fit.
    pub fn fits(self, size: usize) -> usize {
        self.rows.min(self.bytes / size.max(1))
    }

    /// Returns what is left beside these drafts; none where they do not fit.
    pub fn checked_sub(self, rows: usize, bytes: usize) -> Option<Self> {
        Some(Self { rows: self.rows.checked_sub(rows)?, bytes: self.bytes.checked_sub(bytes)? })
    }

    /// Returns a part of it.
    pub fn fraction(self, of: usize) -> Self {
        Self { rows: self.rows / of, bytes: self.bytes / of }
    }
}
