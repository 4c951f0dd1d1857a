//! The one integration binary: each module drives one room, or the whole program, from outside.

mod architecture;
mod bad_input;
mod scan;
mod support;
mod vision;
