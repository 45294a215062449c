//! The `strayd` command: parses the command line and maps outcomes to exit codes; everything else is library.

fn main() {}
