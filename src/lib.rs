//! modtool: local, zero-shot content moderation with people in the loop.

pub mod moderation;
pub mod policy_file;
pub mod store;
pub mod yaml_file;
