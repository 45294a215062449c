//! The `strayd` command: everything is in the library.

fn main() -> std::process::ExitCode {
    strayd::cli::main()
}
