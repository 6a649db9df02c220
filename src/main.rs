//! The command `dinnerbell`: see [`dinnerbell::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    dinnerbell::cli::main()
}
