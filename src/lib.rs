//! modtool: local, zero-shot content moderation with people in the loop.

pub mod moderation;
pub mod tui;
