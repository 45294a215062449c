//! The command line: one file (or folder) per command. It must never hold what a library user would need.

pub mod demo;
