//! The codecs of a record batch.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, at this level.
    Gzip(u32),
    /// Snappy blocks in the framing of the Java library.
    Snappy,
    /// One LZ4 frame of independent blocks: the Java client reads no others.
    #[default]
    Lz4,
    /// One Zstandard frame, at this level.
    Zstd(i32),
}

/// How the framing of the Java snappy library begins: magic, version 1, compatible with 1.
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Most bytes of one snappy block, as the Java library cuts them.
const SNAPPY_BLOCK: usize = 32 * 1024;

impl Compression {
    /// RFC 1952 at the level that its library takes for the usual one.
    pub const GZIP: Self = Self::Gzip(6);
    /// Zstandard at the level that its library takes for the usual one.
    pub const ZSTD: Self = Self::Zstd(3);

    /// The codec of this name, at this level where it has levels. Returns a text for the operator where there is none.
    pub fn named(name: &str, level: Option<i32>) -> Result<Self, String> {
        let in_range = |range: std::ops::RangeInclusive<i32>, usual: i32| match level {
            None | Some(-1) => Ok(usual),
            Some(level) if range.contains(&level) => Ok(level),
            Some(level) => {
                Err(format!("{name} has levels from {} to {}, and none {level}", range.start(), range.end()))
            }
        };
        match (name, level) {
            ("gzip", _) => Ok(Self::Gzip(in_range(0..=9, 6)?.unsigned_abs())),
            ("zstd", _) => Ok(Self::Zstd(in_range(1..=22, 3)?)),
            ("none" | "snappy" | "lz4", Some(level)) if level != -1 => {
                Err(format!("{name} has no levels here: leave the level out, or take zstd or gzip"))
            }
            ("none", _) => Ok(Self::None),
            ("snappy", _) => Ok(Self::Snappy),
            ("lz4", _) => Ok(Self::Lz4),
            _ => Err(format!("{name} is none of none, gzip, snappy, lz4 and zstd")),
        }
    }

    /// The number of the codec in a batch's attributes.
    pub fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip(_) => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd(_) => 4,
        }
    }

    /// Appends the compressed records. Fails where the codec's library does; memory is all it writes to.
    pub fn compress(self, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::None => out.extend_from_slice(records),
            Self::Gzip(level) => {
                let mut encoder = GzEncoder::new(out, flate2::Compression::new(level));
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Self::Snappy => snappy(records, out)?,
            Self::Lz4 => {
                let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max256KB);
                let mut encoder = FrameEncoder::with_frame_info(frame, out);
                encoder.write_all(records)?;
                encoder.finish().map_err(io::Error::other)?;
            }
            Self::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
                encoder.set_pledged_src_size(Some(records.len() as u64))?;
                encoder.write_all(records)?;
                encoder.finish()?;
            }
        }
        Ok(())
    }
}

fn snappy(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&SNAPPY_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(SNAPPY_BLOCK)];
    for records in records.chunks(SNAPPY_BLOCK) {
        let length = encoder.compress(records, &mut block).map_err(io::Error::other)?;
        let length_field = u32::try_from(length).map_err(io::Error::other)?;
        out.extend_from_slice(&length_field.to_be_bytes());
        out.extend_from_slice(&block[..length]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_is_found_by_its_name_and_a_level_that_it_does_not_have_is_refused() {
        assert_eq!(Compression::named("lz4", None), Ok(Compression::Lz4));
        assert_eq!(Compression::named("zstd", Some(-1)), Ok(Compression::ZSTD));
        assert_eq!(Compression::named("gzip", Some(9)), Ok(Compression::Gzip(9)));
        for (name, level) in [("lz4", Some(3)), ("gzip", Some(10)), ("zstd", Some(-7)), ("brotli", None)] {
            assert!(Compression::named(name, level).is_err(), "{name} {level:?}");
        }
    }
}
