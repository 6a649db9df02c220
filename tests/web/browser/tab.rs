//! One real browser: Chromium without a window, with a profile of its own, driven by chromedriver. Both end with the value.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::common::capabilities::chrome::ChromeCapabilities;
use thirtyfour::prelude::*;
use tokio::runtime::Runtime;

use crate::client::encoded;
use crate::support::servers::signal;
use crate::support::wait::{wait_for, wait_until};

/// How long a browser may take to start on a machine that is busy.
const STARTS_WITHIN: Duration = Duration::from_secs(90);
/// How long what a page is to show may take.
pub const SOON: Duration = Duration::from_secs(60);
/// How long a browser may take to end by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Most browsers at once: more make each other wait.
const AT_ONCE: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// One of the few browsers that run at once.
struct Place;

impl Place {
    fn take() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let free = ENDED.wait_while(running, |running| *running >= AT_ONCE);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// A browser with one tab, at an instance.
pub struct Tab {
    /// The way to the first page, with a slash at its end.
    pub base: String,
    driver: Option<WebDriver>,
    runtime: Runtime,
    chromedriver: Child,
    /// What the browser keeps; gone with it.
    profile: TempDir,
    _place: Place,
}

impl Tab {
    /// Starts a browser for the page at this address.
    #[track_caller]
    pub fn open(base: &str) -> Self {
        let place = Place::take();
        let profile = tempfile::tempdir().expect("a temporary folder can be made");
        let log = profile.path().join("chromedriver.log");
        let output = File::create(&log).expect("the folder can be written");
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stderr(Stdio::null()).stdout(output).process_group(0);
        let chromedriver = command.spawn().expect("scripts/setup test installs chromedriver");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread can be built");
        let mut tab = Self { base: base.to_owned(), driver: None, runtime, chromedriver, profile, _place: place };
        let port = wait_for("chromedriver says its port", STARTS_WITHIN, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let (_, rest) = text.split_once("started successfully on port ")?;
            rest.split_once('.').map(|(port, _)| port.to_owned())
        });
        let capabilities = tab.capabilities();
        let session = WebDriver::builder(format!("http://127.0.0.1:{port}"), capabilities);
        let session = async { session.request_timeout(STARTS_WITHIN).await };
        tab.driver = Some(tab.runtime.block_on(session).expect("Chromium starts"));
        tab.size(1200, 900);
        tab
    }

    /// Starts one, and signs somebody in.
    #[track_caller]
    pub fn signed_in(address: &str, name: &str, token: &str) -> Self {
        let tab = Self::open(&format!("http://{address}/"));
        tab.sign_in(name, token);
        tab
    }

    /// Signs in, as a person does: what is typed, and Enter.
    #[track_caller]
    pub fn sign_in(&self, name: &str, token: &str) {
        self.go("sign-in");
        self.type_in("#name", name);
        self.type_in("#token", token);
        self.click("#submit");
        self.wait("#who");
    }

    fn capabilities(&self) -> ChromeCapabilities {
        let mut chrome = ChromeCapabilities::new();
        let profile = format!("--user-data-dir={}", self.profile.path().join("profile").display());
        // Root has no sandbox; /dev/shm is small in containers.
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let quiet = ["--no-first-run", "--disable-extensions", "--hide-scrollbars", "--lang=en-GB"];
        for argument in arguments.into_iter().chain(quiet).chain([profile.as_str()]) {
            chrome.add_arg(argument).expect("an argument is text");
        }
        chrome.set_browser_log_level(thirtyfour::LoggingPrefsLogLevel::All).expect("a level is text");
        chrome
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().expect("it runs until it is dropped")
    }

    /// Goes to a page, and waits until it is loaded.
    #[track_caller]
    pub fn go(&self, path: &str) {
        self.runtime.block_on(self.driver().goto(format!("{}{path}", self.base))).expect("the page loads");
    }

    /// The path of the page that is shown.
    pub fn path(&self) -> String {
        let url = self.runtime.block_on(self.driver().current_url()).expect("there is a page");
        url.path().to_owned()
    }

    /// What a function of the page returns, given its body.
    #[track_caller]
    pub fn eval(&self, body: &str) -> Value {
        let answer = self.runtime.block_on(self.driver().execute(body, Vec::new()));
        answer.expect("the script runs").json().clone()
    }

    /// What a function that is told the text returns or promises.
    #[track_caller]
    pub fn eval_with(&self, body: &str, text: &str) -> Value {
        let answer = self.runtime.block_on(self.driver().execute(body, vec![json!(text)]));
        answer.expect("the script runs").json().clone()
    }

    /// Whether the page has such an element, and shows it.
    pub fn shows(&self, css: &str) -> bool {
        let script = "const found = document.querySelector(arguments[0]); return !!found && found.checkVisibility();";
        self.eval_with(script, css) == json!(true)
    }

    /// The text of the first such element, as the page shows it; empty where there is none.
    pub fn text(&self, css: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? '';";
        self.eval_with(script, css).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until such an element is shown.
    #[track_caller]
    pub fn wait(&self, css: &str) {
        wait_until(&format!("{css} is shown"), SOON, || self.shows(css));
    }

    /// Waits until the text of such an element holds this.
    #[track_caller]
    pub fn wait_text(&self, css: &str, text: &str) {
        wait_until(&format!("{css} says {text:?}"), SOON, || self.text(css).contains(text));
    }

    /// Clicks on it, as with a mouse: what lies under something else cannot be clicked on.
    #[track_caller]
    pub fn click(&self, css: &str) {
        self.wait(css);
        let clicked = async { self.driver().find(By::Css(css)).await?.click().await };
        self.runtime.block_on(clicked).expect("it can be clicked on");
    }

    /// Types a text into a field.
    #[track_caller]
    pub fn type_in(&self, css: &str, text: &str) {
        self.wait(css);
        let typed = async { self.driver().find(By::Css(css)).await?.send_keys(text).await };
        self.runtime.block_on(typed).expect("it can be typed into");
    }

    /// Presses keys, wherever the keyboard is.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let pressed = async { self.driver().action_chain().send_keys(keys).perform().await };
        self.runtime.block_on(pressed).expect("keys can be pressed");
    }

    /// Gives the window this size, as of a telephone or a desk.
    pub fn size(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// The reader prefers a dark page.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// No script of a page is loaded from now on.
    pub fn without_script(&self) {
        self.devtools("Network.enable", json!({}));
        self.devtools("Network.setBlockedURLs", json!({"urls": ["*.js"]}));
    }

    /// Speaks to the browser's own tools.
    #[track_caller]
    pub fn devtools(&self, method: &str, parameters: Value) -> Value {
        let answer = self.runtime.block_on(self.driver().cdp().send_raw(method, parameters));
        answer.expect("the browser's tools answer")
    }

    /// Keeps a picture of what is shown.
    pub fn picture(&self, file: &Path) {
        self.runtime.block_on(self.driver().screenshot(file)).expect("a picture can be kept");
    }

    /// What the browser complained about since it was asked last: what the policy forbids, and scripts that fail.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.runtime.block_on(self.driver().browser_log()).expect("the browser keeps a log");
        let bad = log.into_iter().filter(|entry| entry.level == "SEVERE" || entry.level == "WARNING");
        // That an answer was a refusal is for the test to judge.
        bad.map(|entry| entry.message).filter(|text| !text.contains("Failed to load resource")).collect()
    }

    /// A page by its id.
    pub fn go_to_campaign(&self, id: &str) {
        self.go(&format!("campaigns/{}", encoded(id)));
    }

    fn browser_pid(&self) -> Option<u32> {
        let capabilities = self.driver.as_ref()?.capabilities();
        let pid = serde_json::to_value(capabilities).ok()?.get("goog:processID")?.as_u64()?;
        u32::try_from(pid).ok()
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let browser = self.browser_pid();
        if let Some(driver) = self.driver.take() {
            let _ = self.runtime.block_on(async { tokio::time::timeout(ENDS_WITHIN, driver.quit()).await });
        }
        signal(self.chromedriver.id(), Signal::TERM);
        let began = std::time::Instant::now();
        while began.elapsed() < ENDS_WITHIN && matches!(self.chromedriver.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.chromedriver.kill();
        let _ = self.chromedriver.wait();
        if let Some(pid) = browser {
            end(pid, self.profile.path());
        }
    }
}

/// Ends a browser that its driver left behind: the process that has this number, if it still has that profile.
fn end(pid: u32, profile: &Path) {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&command).contains(&*profile.to_string_lossy()) {
        signal(pid, Signal::KILL);
    }
}
