//! The one integration binary: each module drives one room, or the whole program, from outside.

mod actions;
mod architecture;
mod bad_input;
mod cli;
mod desk;
mod golden;
mod hooks;
mod model;
mod policy;
mod queue;
mod review;
mod scan;
mod score;
mod store;
mod support;
mod vision;
mod watch;
