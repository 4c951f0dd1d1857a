//! modtool: local, zero-shot content moderation with people in the loop.

pub mod cli;
pub mod config;
pub mod exit_code;
pub mod moderation;
pub mod policy_file;
pub mod store;
pub mod telemetry;
pub mod yaml_file;
