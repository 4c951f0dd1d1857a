//! The one integration binary: each module drives one room from outside.

mod vision;
