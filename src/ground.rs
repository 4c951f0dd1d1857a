//! Whose ground this is: who may write a path, whose workspace a folder is, and what overlaps.
//!
//! The rules that modtool follows, the programs that it runs and the libraries that it loads are
//! files. Whoever can write one of them, or a folder above it, decides what modtool does; so it
//! uses only files that nobody else may write, and never lets uploads lie where it keeps its own.

mod accounts;
mod overlap;
mod owner;
mod writers;

pub use accounts::{Account, user_name};
pub use overlap::{Mounts, Overlap};
pub use owner::{BecomeError, become_account, foreign_owned, owner_of};
pub use writers::{Untrusted, WhyUntrusted, check, check_with_entries};
