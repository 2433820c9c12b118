//! Why bytes are not the message they claim to be.

use crate::NotUtf8;

/// Why a message could not be decoded. `field` is `Struct.field` as in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before the field does.
    #[error("{field} needs {needed} bytes but {remaining} remain")]
    Truncated {
        /// Where it happened.
        field: &'static str,
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that remain.
        remaining: usize,
    },
    /// A length or count below -1.
    #[error("{field} has the length {length}; at least -1 (null) was expected")]
    NegativeLength {
        /// Where it happened.
        field: &'static str,
        /// The length seen.
        length: i32,
    },
    /// Null where this version of the message does not allow it.
    #[error("{field} is null, which this version does not allow")]
    Null {
        /// Where it happened.
        field: &'static str,
    },
    /// More elements than the bytes that remain could hold.
    #[error("{field} claims {count} elements, but the {remaining} bytes that remain can hold {most} at most")]
    CountBeyondFrame {
        /// Where it happened.
        field: &'static str,
        /// The count seen.
        count: usize,
        /// Bytes that remain.
        remaining: usize,
        /// Elements that would fit.
        most: usize,
    },
    /// The decoded structs would take more memory than one message may.
    #[error(
        "{field} would take {needed} bytes of memory when decoded, {left} are left of the limit for one message \
         (by default 64 MiB); send fewer elements in one request"
    )]
    MemoryLimit {
        /// Where it happened.
        field: &'static str,
        /// Bytes of memory needed.
        needed: usize,
        /// Bytes that are left of the limit.
        left: usize,
    },
    /// Text that is not UTF-8.
    #[error("{field} is {source}")]
    Utf8 {
        /// Where it happened.
        field: &'static str,
        /// What is wrong with it.
        source: NotUtf8,
    },
    /// A variable-length integer that does not end where it must.
    #[error("{field} has a variable-length integer of more than {bits} bits")]
    VarintTooLong {
        /// Where it happened.
        field: &'static str,
        /// The width of the integer.
        bits: u32,
    },
    /// A tagged field that is longer than what it holds.
    #[error("{field} has tag {tag} with {extra} bytes more than the field needs")]
    TagTooLong {
        /// Where it happened.
        field: &'static str,
        /// The tag.
        tag: u32,
        /// Bytes left over.
        extra: usize,
    },
    /// A version that this codec does not have.
    #[error("{message} has no version {version} here; known are {first} to {last}")]
    UnknownVersion {
        /// The message's name.
        message: &'static str,
        /// The version seen.
        version: i16,
        /// The first version known.
        first: i16,
        /// The last version known.
        last: i16,
    },
}
