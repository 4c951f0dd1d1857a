//! modtool: local, zero-shot content moderation with people in the loop.

pub mod cli;
pub mod commands;
pub mod config;
pub mod exit_code;
pub mod files;
pub mod ground;
pub mod moderation;
pub mod pipeline;
pub mod policy_file;
pub mod search;
pub mod store;
pub mod telemetry;
pub mod tui;
pub mod vision;
pub mod yaml_file;
