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

/// Whether a test can give files away; says so, and why it needs to, where it can't.
#[cfg(test)]
fn is_root(why: &str) -> bool {
    use std::io::Write as _;
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        // Nobody to tell is no reason to fail.
        let _ =
            writeln!(std::io::stderr(), "*** SKIPPED a test of whose files are whose: {why} ***");
    }
    is_root
}
