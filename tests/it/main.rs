//! The one integration binary: each module drives one room, or the whole program, from outside.

mod actions;
mod architecture;
mod backup;
mod bad_input;
mod bank;
mod bombs;
mod cli;
mod crash;
mod desk;
mod eval;
mod evasion;
mod fuzz;
mod golden;
mod hooks;
mod model;
mod policy;
mod queue;
mod review;
mod sandbox;
mod scan;
mod score;
mod soak;
mod store;
mod support;
mod vision;
mod watch;
