//! What a command prints for its user, on standard output.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;

/// Prints text. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Places of a line where nobody says how many there are.
const USUAL_WIDTH: u16 = 120;

/// How many places a line has: those of the terminal, or 120 where standard output is none.
pub fn width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(io::stdout()).ok();
    terminal.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(USUAL_WIDTH).into()
}

/// Prints a value as JSON.
pub fn print_json(value: &(impl serde::Serialize + ?Sized)) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Failed(format!("cannot print this as JSON: {error}")))?;
    print(&(text + "\n"))
}

/// A sign of life while a command works, with what it is busy with. Drawn on standard error, and only on a terminal.
pub fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is well formed");
    ProgressBar::no_length().with_style(style)
}
