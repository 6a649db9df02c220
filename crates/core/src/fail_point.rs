//! Named points at which a test kills or freezes the process: `DINNERBELL_FAIL_POINT=name@N=abort|freeze`, several
//! separated by commas. Without the cargo feature `fail-points`, which no user's binary has, nothing of it is compiled.

/// The process stops here if the environment says so: at the N-th time that the point of this name is reached.
///
/// `abort` is SIGKILL, so that nothing runs afterwards, no destructor and no handler; `freeze` is SIGSTOP, until somebody
/// sends SIGCONT.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn fail_point(_name: &str) {}

#[cfg(feature = "fail-points")]
pub use armed::fail_point;

#[cfg(feature = "fail-points")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// The environment variable that arms fail points.
    const VARIABLE: &str = "DINNERBELL_FAIL_POINT";

    static ARMED: LazyLock<Vec<FailPoint>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let parse =
            |one| FailPoint::parse(one).unwrap_or_else(|| panic!("{VARIABLE}: {one:?} is not name@N=abort|freeze"));
        text.split(',').filter(|one| !one.is_empty()).map(parse).collect()
    });

    #[derive(Debug)]
    struct FailPoint {
        name: String,
        at: u64,
        signal: Signal,
        reached: AtomicU64,
    }

    impl FailPoint {
        fn parse(text: &str) -> Option<Self> {
            let (place, action) = text.split_once('=')?;
            let (name, at) = place.split_once('@')?;
            let signal = match action {
                "abort" => Signal::KILL,
                "freeze" => Signal::STOP,
                _ => return None,
            };
            Some(Self { name: name.to_owned(), at: at.parse().ok()?, signal, reached: AtomicU64::new(0) })
        }
    }

    /// The process stops here if the environment says so: at the N-th time that the point of this name is reached.
    ///
    /// `abort` is SIGKILL, so that nothing runs afterwards, no destructor and no handler; `freeze` is SIGSTOP, until somebody
    /// sends SIGCONT.
    pub fn fail_point(name: &str) {
        for point in ARMED.iter().filter(|point| point.name == name) {
            let times = point.reached.fetch_add(1, Ordering::Relaxed) + 1;
            // Tests count these lines; stderr is not buffered.
            eprintln!("fail point {name}: {times}");
            if times == point.at {
                kill_process(getpid(), point.signal).expect("a process may always signal itself");
                // Another thread may be the one that takes SIGSTOP in; this one must not go on until it is stopped too.
                #[expect(clippy::disallowed_methods, reason = "the process is to stop here")]
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::{FailPoint, Signal};

        #[test]
        fn a_fail_point_is_a_name_a_count_and_an_action() {
            let point = FailPoint::parse("round.copied@3=freeze").unwrap();
            assert_eq!((point.name.as_str(), point.at, point.signal), ("round.copied", 3, Signal::STOP));
            for wrong in ["round.copied=abort", "round.copied@x=abort", "round.copied@1=panic", "round.copied@1"] {
                assert!(FailPoint::parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
