//! Zigzag varints as records use them: at most 5 bytes for 32 bits, at most 10 for 64.

use bytes::BufMut;

/// Bytes that the varint of `value` takes, 1 to 10.
pub(crate) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`. 32-bit values give the same bytes as the 32-bit form.
pub(crate) fn put(out: &mut impl BufMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes zigzag for 32 bits.
pub(crate) fn unzigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// Undoes zigzag for 64 bits.
pub(crate) fn unzigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
