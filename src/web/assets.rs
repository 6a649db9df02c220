//! Style, script and picture of the page: in the program, named by what they hold, so that a browser asks for each once.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use dinnerbell_core::text_table::hex;

const STYLE: &str = include_str!("../../templates/page.css");
const SCRIPT: &str = include_str!("../../templates/page.js");
const ICON: &str = include_str!("../../templates/bell.svg");

/// The name of what they hold together.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = [STYLE, SCRIPT, ICON].iter().fold(Sha256::new(), |hash, text| hash.chain_update(text));
    hex(&hash.finalize())[..12].to_owned()
});

/// What a page needs to name them.
#[derive(Debug, Clone)]
pub struct Assets {
    /// The way to the first page.
    pub root: String,
    /// What names this version of them.
    pub version: &'static str,
}

impl Assets {
    /// For a page that stands beside the first one.
    pub fn here() -> Self {
        Self::from(String::new())
    }

    /// For a page from which the first one is reached so.
    pub fn from(root: String) -> Self {
        Self { root, version: &VERSION }
    }
}

/// One of them. A page of another version is given ours, and not told to keep it.
pub async fn asset(Path(name): Path<String>) -> Response {
    let (media, text) = match name.rsplit_once('.') {
        Some((_, "css")) => ("text/css; charset=utf-8", STYLE),
        Some((_, "js")) => ("text/javascript; charset=utf-8", SCRIPT),
        Some((_, "svg")) => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let is_ours = name.split('.').next() == Some(VERSION.as_str());
    let keep = if is_ours { "public, max-age=31536000, immutable" } else { "no-store" };
    ([(CONTENT_TYPE, media), (CACHE_CONTROL, keep)], text).into_response()
}
