//! Panics of the client library that are expected, caught and answered: they are not reported.

use std::cell::Cell;
use std::panic;
use std::sync::Once;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs something whose panic is caught inside, without the report that panics otherwise make.
pub fn catch_panic<T>(run: impl FnOnce() -> T) -> T {
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                report(info);
            }
        }));
    });
    EXPECTED.set(true);
    let done = run();
    EXPECTED.set(false);
    done
}
