//! The one integration binary: every module tests the real thing.
