//! The sizes that the contracts set.

/// Most bytes of a record: its key, value and headers together. Of a larger one only what it was is kept.
pub const LARGEST_RECORD: usize = 1 << 20;

/// Most bytes that are kept of the key, and of the headers, of a record that is too large.
pub const LARGEST_REST: usize = 16 << 10;

/// Most bytes of an id, an owner or a contact.
pub const LONGEST_NAME: usize = 256;

/// Most bytes of a campaign's content.
pub const LONGEST_CONTENT: usize = 16 * 1024;

/// A client id longer than this many bytes is skipped.
pub const LONGEST_CLIENT_ID: usize = 256;
