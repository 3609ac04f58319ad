//! Little room on a disk, and none.

mod full;
mod room;
