//! Messages: what their keys and values are, and the stamp by which they are known again.

mod keys;
mod payload;
mod sizes;
mod stamp;

pub use keys::{KeySpec, Keys};
pub use payload::{PayloadSpec, Payloads};
pub use sizes::{SizeSpec, Sizes};
pub use stamp::{STAMP_LEN, Stamp, Stamped};
