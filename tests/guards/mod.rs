//! Guards that tests on real servers need: each such test is red without its guard. The other proofs are in `crates/sim/tests/simulation`.

mod red;

use std::process::Command;

use dinnerbell_core::guard::{Guard, Guards};

use red::RED;

/// Runs one test of this program, with a service that goes without a guard; says what it printed unless that one test failed.
fn stays_green(guard: Guard, test: &str) -> Option<String> {
    let program = std::env::current_exe().expect("a test knows its own program");
    let run = Command::new(program)
        .args(["--exact", test, "--include-ignored", "--test-threads", "1"])
        .env(Guards::VARIABLE, format!("{guard:?}"))
        .output()
        .expect("a test can start itself");
    let said = String::from_utf8_lossy(&run.stdout);
    (!said.contains("0 passed; 1 failed")).then(|| format!("{test} without {guard:?}:\n{said}"))
}

#[test]
#[ignore = "runs tests that wait until they fail: minutes"]
fn each_test_that_needs_a_guard_is_red_without_it() {
    let green: Vec<String> = RED.iter().filter_map(|(guard, test)| stays_green(*guard, test)).collect();
    assert!(green.is_empty(), "{}", green.join("\n"));
}
