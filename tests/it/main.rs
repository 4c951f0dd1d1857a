//! The one integration binary: each module drives one room, or the whole program, from outside.

mod architecture;
mod bad_input;
mod cli;
mod desk;
mod golden;
mod model;
mod queue;
mod review;
mod scan;
mod score;
mod store;
mod support;
mod vision;
mod watch;
