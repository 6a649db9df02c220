//! What must not grow: the cost of doing nothing, and the cost of beginning. `make prove` runs them; they print what they measured.

mod idle;
