//! The one integration binary: each module drives one room, or the whole binary, from outside.

mod vision;
