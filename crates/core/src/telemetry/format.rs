//! The two text formats in which `/metrics` answers: the request chooses.
//!
//! Prometheus asks for OpenMetrics (<https://prometheus.io/docs/specs/om/open_metrics_spec/>); what reads only the older format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>) sends another `Accept`, or none.

use std::fmt::Write;

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own text format, 0.0.4.
    Prometheus,
}

const OPEN_METRICS: &str = "application/openmetrics-text";
const TEXT: &str = "text/plain";

impl Format {
    /// The format that suits the `Accept` headers of a request best: OpenMetrics only where it is named, and nothing is preferred to it.
    pub fn asked_for<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.flat_map(|header| header.split(',')) {
            let mut words = range.split(';').map(str::trim);
            let media = words.next().unwrap_or_default();
            let weight = words.find_map(|word| word.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            if media.eq_ignore_ascii_case(OPEN_METRICS) {
                open = open.max(weight);
            } else if media.eq_ignore_ascii_case(TEXT) {
                text = text.max(weight);
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The media type of the format.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Text in OpenMetrics' format, in this one.
    pub(crate) fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => prometheus(&open_metrics),
        }
    }
}

/// The older format knows no units, no end and no infos, and names a counter as its samples are named.
fn prometheus(open_metrics: &str) -> String {
    let types = |line: &str| -> Option<(String, String)> {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    let kinds: std::collections::BTreeMap<String, String> = open_metrics.lines().filter_map(types).collect();
    let sampled = |name: &str| match kinds.get(name).map(String::as_str) {
        Some("counter") => format!("{name}_total"),
        Some("info") => format!("{name}_info"),
        _ => name.to_owned(),
    };
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        // Writing to a string does not fail.
        let _ = match line.strip_prefix("# ").map(|comment| comment.splitn(3, ' ').collect::<Vec<_>>()).as_deref() {
            None => writeln!(text, "{line}"),
            Some(["HELP", name, help]) => writeln!(text, "# HELP {} {help}", sampled(name)),
            Some(["TYPE", name, kind]) => {
                let kind = match *kind {
                    "info" | "stateset" => "gauge",
                    "unknown" => "untyped",
                    kind => kind,
                };
                writeln!(text, "# TYPE {} {kind}", sampled(name))
            }
            Some(_) => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &[&str]) -> Format {
        Format::asked_for(accept.iter().copied())
    }

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(asked(&[prometheus]), Format::OpenMetrics);
        assert_eq!(asked(&["application/openmetrics-text; version=1.0.0"]), Format::OpenMetrics);
        for accept in
            [&[][..], &["*/*"], &["text/html, */*;q=0.8"], &["text/plain"], &["application/openmetrics-text;q=0"]]
        {
            assert_eq!(asked(accept), Format::Prometheus, "{accept:?}");
        }
        assert_eq!(asked(&["text/plain;q=0.9", "application/openmetrics-text;q=0.1"]), Format::Prometheus);
    }

    #[test]
    fn the_older_format_names_counters_by_their_samples_and_knows_no_units_infos_or_end() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{b=\"# c\"} 1\n# HELP t_seconds Time.\n# TYPE t_seconds gauge\n\
                    # UNIT t_seconds seconds\nt_seconds 2\n# HELP v What runs.\n# TYPE v info\nv_info{version=\"1\"} 1\n# EOF\n";
        let old = "# HELP a_total Things.\n# TYPE a_total counter\na_total{b=\"# c\"} 1\n# HELP t_seconds Time.\n\
                   # TYPE t_seconds gauge\nt_seconds 2\n# HELP v_info What runs.\n# TYPE v_info gauge\nv_info{version=\"1\"} 1\n";
        assert_eq!(Format::Prometheus.of(open.to_owned()), old);
        assert_eq!(Format::OpenMetrics.of(open.to_owned()), open);
    }
}
