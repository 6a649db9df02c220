//! What a check of a server found. One check serves all who ask. `dinnerbell doctor` prints everything. `dinnerbell run` refuses to start on an
//! error, and logs a warning.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Whether one thing is as the service needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// The service works, and somebody should look at it.
    Warning,
    /// The service cannot keep its promises, or cannot work.
    Error,
}

/// What one check found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The check; its name stays the same from version to version.
    pub check: &'static str,
    /// Whether it is as the service needs it.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// How to mend it; null where nothing is to be mended.
    pub remedy: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl fmt::Debug for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Findings").field(&self.all).finish()
    }
}

/// Is called with each finding as it is made.
pub type Listener = Arc<dyn Fn(&Finding) + Send + Sync>;

/// Collects findings.
#[derive(Default, Clone)]
pub struct Findings {
    all: Vec<Finding>,
    listener: Option<Listener>,
}

impl Findings {
    /// None yet; each is told as it is made.
    pub fn told_to(listener: Listener) -> Self {
        Self { all: Vec::new(), listener: Some(listener) }
    }

    /// None yet, told to whom these are told.
    pub fn another(&self) -> Self {
        Self { all: Vec::new(), listener: self.listener.clone() }
    }

    /// It is as it should be.
    pub fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.put(Finding { check, status: Status::Ok, found: found.into(), remedy: None });
    }

    /// Somebody should look at it.
    pub fn warn(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Status::Warning, found, remedy);
    }

    /// The service cannot work so.
    pub fn fail(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Status::Error, found, remedy);
    }

    /// Sets whether it is as the service needs it.
    pub fn add(&mut self, check: &'static str, status: Status, found: impl Into<String>, remedy: impl Into<String>) {
        self.put(Finding { check, status, found: found.into(), remedy: Some(remedy.into()) });
    }

    /// An error of a server: its text names the setting to change, if it is one.
    pub fn refused(&mut self, check: &'static str, error: impl ToString) {
        self.put(Finding { check, status: Status::Error, found: error.to_string(), remedy: None });
    }

    /// Adds what a check found that was made elsewhere.
    pub fn take(&mut self, others: Self) {
        let heard = others.listener.is_some();
        for finding in others.all {
            if heard { self.all.push(finding) } else { self.put(finding) }
        }
    }

    /// The worst of all.
    pub fn status(&self) -> Status {
        self.all.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok)
    }

    /// In the order in which they were made.
    pub fn all(&self) -> &[Finding] {
        &self.all
    }

    /// In the order in which they were made.
    pub fn into_all(self) -> Vec<Finding> {
        self.all
    }

    /// What keeps the service from working, in one line; none where nothing does.
    pub fn errors(&self) -> Option<String> {
        let errors = self.all.iter().filter(|finding| finding.status == Status::Error);
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        (!errors.is_empty()).then(|| errors.join("; and "))
    }

    /// Says in the log what somebody should look at.
    pub fn log_warnings(&self) {
        for finding in self.all.iter().filter(|finding| finding.status == Status::Warning) {
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            tracing::warn!(check = finding.check, remedy, "{}", finding.found);
        }
    }

    fn put(&mut self, finding: Finding) {
        if let Some(listener) = &self.listener {
            listener(&finding);
        }
        self.all.push(finding);
    }
}
