//! What every screen with pictures needs: the terminal, taken over and given back (`terminal`),
//! how it is given pictures (`protocol`), and as much of a picture as may be shown (`pixels`).

pub(super) mod pixels;
pub(super) mod protocol;
pub(super) mod terminal;
