//! Animations that the tests write byte by byte.
