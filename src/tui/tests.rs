//! The dashboard as its tests see it: events in, state, effects and frames out.

mod drawing;
mod fixtures;
mod looping;
mod updating;
