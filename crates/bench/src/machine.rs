//! Where the bench and the service run.

use serde::Serialize;

/// Where the bench and the service ran.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Processors that may be used.
    pub cores: usize,
    /// The processors' name, where it is known.
    pub processor: Option<String>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// How many processes wanted a processor in the minute before: above the number of cores, nothing that was measured means much.
    pub load_before: Option<f64>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor.map(|(_, name)| name.to_owned()),
            memory_bytes: kilobytes.and_then(|text| text.parse::<u64>().ok()).map(|kilobytes| kilobytes * 1024),
            load_before: read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()),
        }
    }
}

/// What all processors of this machine did since it started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    /// Until now.
    pub fn now() -> Self {
        Self::parse(&read("/proc/stat"))
    }

    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|text| text.parse().ok()).collect();
        Self { idle: ticks.iter().skip(3).take(2).sum(), all: ticks.iter().sum() }
    }

    /// The share of processor time in use since an earlier moment, by whatever runs on this machine.
    pub fn busy_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some(1.0 - self.idle.saturating_sub(before.idle) as f64 / all as f64)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_that_wait_for_a_disk_are_not_busy() {
        let before = Ticks::parse("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n");
        let after = Ticks::parse("cpu  150 0 150 750 150 0 0 0 60 0\n");
        assert_eq!(after.busy_since(before), Some(0.5));
        assert_eq!(before.busy_since(before), None);
    }
}
