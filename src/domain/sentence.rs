//! The sentences of statuses: one line, at most 140 characters.
