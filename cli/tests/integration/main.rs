//! The program on real servers: `SERVER_BIN` and `MODULE_PATH` say which.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod acting;
mod doctor;
mod exits;
mod looking;
mod manual;
mod places;
mod run;
mod support;
mod telling;
mod terminal;
mod top;
