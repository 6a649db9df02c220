//! The process as every exporter shows it, read from `/proc` at the moment of asking. What cannot be read is left out.

use std::fmt::Error;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// The unit of times in `/proc`: 100 on every architecture that Linux runs on, as part of its interface.
const TICKS_A_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let seconds = Unit::Seconds;
        if let Some(Times { cpu, start }) = Times::read() {
            let cpu = ConstCounter::new(cpu);
            let help = "Processor time used, user and system.";
            cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&seconds), cpu.metric_type())?)?;
            if let Some(start) = start {
                gauge(&mut encoder, "process_start_time", "Start of the process, Unix time.", Some(&seconds), start)?;
            }
        }
        let bytes = Unit::Bytes;
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let gauges = [
                ("VmRSS:", "process_resident_memory", "Resident memory.", Some(&bytes), 1024.0),
                ("VmSize:", "process_virtual_memory", "Virtual memory.", Some(&bytes), 1024.0),
                ("Threads:", "process_threads", "Threads of the process.", None, 1.0),
            ];
            for (line, name, help, unit, factor) in gauges {
                if let Some(value) = first_number(&status, line) {
                    gauge(&mut encoder, name, help, unit, value * factor)?;
                }
            }
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // The folder itself is open while it is counted.
            let open = files.count().saturating_sub(1);
            gauge(&mut encoder, "process_open_fds", "Open file descriptors.", None, open as f64)?;
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(most) = first_number(&limits, "Max open files") {
            gauge(&mut encoder, "process_max_fds", "Most open file descriptors.", None, most)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Result<(), Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

/// The first number behind the beginning of a line.
fn first_number(text: &str, beginning: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(beginning)?.split_whitespace().next()?.parse().ok())
}

/// Times of the process in seconds.
struct Times {
    cpu: f64,
    start: Option<f64>,
}

impl Times {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|stat| first_number(&stat, "btime"));
        Self::parse(&stat, boot)
    }

    fn parse(stat: &str, boot: Option<f64>) -> Option<Self> {
        // The second field is the program's name in brackets and may hold anything; the third comes after the last bracket.
        let (_, fields) = stat.rsplit_once(") ")?;
        let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<f64>().ok();
        let cpu = (field(14)? + field(15)?) / TICKS_A_SECOND;
        let start = field(22).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS_A_SECOND);
        Some(Self { cpu, start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name_of_a_program() {
        let stat = "7 (odd) name (x) S 1 7 7 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 9 0 1200 1000 200 0";
        let times = Times::parse(stat, Some(1_000.0)).unwrap();
        assert_eq!((times.cpu, times.start), (3.0, Some(1_012.0)));
    }

    #[test]
    fn a_number_is_found_behind_the_beginning_of_its_line() {
        assert_eq!(first_number("VmSize:\t 10 kB\nVmRSS:\t 8 kB\n", "VmRSS:"), Some(8.0));
        assert_eq!(
            first_number("Max open files            1024                 4096  files", "Max open files"),
            Some(1024.0)
        );
        assert_eq!(first_number("Max open files            unlimited", "Max open files"), None);
    }
}
