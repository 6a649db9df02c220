//! `dinnerbell migrate`

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{ConfigFile, Failure, block_on, operator, output};
use dinnerbell_postgres::migrate::{Adopt, Event, migrate, script};

/// Where there is no terminal, progress is a line of the log at each phase, and this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Make the ledger's tables and the indexes, or bring them up to date
#[derive(Debug, Args)]
#[command(
    long_about = "Make the ledger's tables (schema dinnerbell in the feedback database) and the indexes on the two tables, or bring \
                  them up to date. It may be run at any time, repeatedly, and beside a running service: what is there is left alone, \
                  and indexes are built CONCURRENTLY.",
    after_help = "Example:\n  dinnerbell migrate -c dinnerbell.toml\n  dinnerbell migrate --print-sql > migrate.sql"
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Also create the subscribers and feedback tables, where they are not there yet
    #[arg(long)]
    create_tables: bool,
    /// Switch the ledger to the table in feedback.table; it must hold the rows of all campaigns that are not over
    #[arg(long, conflicts_with = "print_sql")]
    adopt_feedback_table: bool,
    /// Switch even if rows are missing; a lane halts before it tells such a client again
    #[arg(long, requires = "adopt_feedback_table")]
    without_rows: bool,
    /// Print the SQL for databases in which nothing of it is there yet; contacts nobody
    #[arg(long)]
    print_sql: bool,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        if self.print_sql {
            return output::print(&script(&config, self.create_tables));
        }
        let screen = Screen::new();
        let adopt = match (self.adopt_feedback_table, self.without_rows) {
            (false, _) => Adopt::No,
            (true, without_rows) => Adopt::Yes { without_rows, by: operator("migrate") },
        };
        let result = block_on(async {
            let migrated = migrate(&config, self.create_tables, &adopt, &|event| screen.show(event)).await;
            migrated.map_err(|error| Failure::Failed(error.to_string()))
        });
        screen.clear();
        result
    }
}

/// Results go to standard output; what it is busy with to a progress bar on a terminal, else to the log.
struct Screen {
    bar: Option<ProgressBar>,
    last_line: Mutex<(String, Instant)>,
}

impl Screen {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("the template is valid");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, last_line: Mutex::new((String::new(), Instant::now())) }
    }

    fn show(&self, event: Event<'_>) {
        match event {
            Event::Doing(what) => self.busy(what, what),
            Event::Building { phase, done, total } => {
                let share =
                    (done.min(total) * 100).checked_div(total).map(|share| format!(": {share} %")).unwrap_or_default();
                self.busy(phase, &format!("{phase}{share}"));
            }
            Event::Done(what) => self.print(what),
            Event::Warning(what) => self.print(&format!("warning: {what}")),
            Event::HandOver(sql) => self.print(sql),
        }
    }

    fn busy(&self, phase: &str, what: &str) {
        let Some(bar) = &self.bar else {
            let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
            if last.0 != phase || last.1.elapsed() >= LINE_EVERY {
                *last = (phase.to_owned(), Instant::now());
                tracing::info!("{what}");
            }
            return;
        };
        bar.set_message(what.to_owned());
    }

    fn print(&self, line: &str) {
        let print = || {
            // Nobody reads it any more: the work is worth finishing all the same.
            let _ = output::print(&format!("{}\n", line.trim_end()));
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
