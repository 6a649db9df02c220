//! The codecs of a record batch.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of the Java library.
    Snappy,
    /// One LZ4 frame of independent blocks: the Java client reads no others.
    #[default]
    Lz4,
    /// One Zstandard frame.
    Zstd,
}

/// What level of Zstandard is used: as in librdkafka's default, its own.
const ZSTD_LEVEL: i32 = 3;
/// How the framing of the Java snappy library begins: magic, version 1, compatible with 1.
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Most bytes of one snappy block, as the Java library cuts them.
const SNAPPY_BLOCK: usize = 32 * 1024;

impl Compression {
    /// The number of the codec in a batch's attributes.
    pub fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Appends the compressed records. Fails where the codec's library does; memory is all it writes to.
    pub fn compress(self, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::None => out.extend_from_slice(records),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, flate2::Compression::default());
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
            Self::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
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
