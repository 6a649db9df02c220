//! Kafka's variable-length integers: zigzag, then seven bits a byte, the lowest first.

/// Appends a number.
pub(crate) fn put(number: i64, out: &mut Vec<u8>) {
    let mut rest = zigzag(number);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a length.
pub(crate) fn put_length(length: usize, out: &mut Vec<u8>) {
    put(signed(length), out);
}

/// How many bytes a length takes.
pub(crate) fn size_of_length(length: usize) -> usize {
    size(signed(length))
}

/// How many bytes a number takes.
pub(crate) fn size(number: i64) -> usize {
    let bits = 64 - (zigzag(number) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).expect("no buffer has more than 2^63 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_are_said_and_are_those_of_the_format() {
        let known: [(i64, &[u8]); 6] = [
            (0, &[0]),
            (-1, &[1]),
            (63, &[126]),
            (64, &[0x80, 1]),
            (300, &[0xd8, 4]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ];
        for (number, bytes) in known {
            let mut out = Vec::new();
            put(number, &mut out);
            assert_eq!(out, bytes, "{number}");
            assert_eq!(size(number), bytes.len(), "{number}");
        }
    }
}
