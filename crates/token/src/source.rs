//! Where tokens come from.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::time::sleep;

use crate::jwt::LARGEST;
use crate::{Endpoint, Token, TokenError};

/// How long after a look at the file the next one is, and how many follow the first at most.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
const LOOKS: usize = 20;

/// Where tokens come from.
#[derive(Debug)]
pub enum Source {
    /// An authorization server, asked by HTTP.
    Endpoint(Endpoint),
    /// A file that something else keeps fresh.
    File(PathBuf),
}

impl Source {
    /// The host to which a secret goes without encryption, if one does.
    pub(crate) fn in_clear_to(&self) -> Option<&str> {
        match self {
            Self::Endpoint(endpoint) => endpoint.in_clear_to(),
            Self::File(_) => None,
        }
    }

    /// The next token. Fails with where it was looked for, what was wrong, and how to mend it.
    pub(crate) async fn fetch(&self) -> Result<Token, TokenError> {
        match self {
            Self::Endpoint(endpoint) => endpoint.fetch().await,
            Self::File(path) => read(path).await,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Endpoint(endpoint) => write!(f, "{endpoint}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// Reads the token's file until two looks in a row find the same: a writer that does not replace it may be in the middle.
async fn read(path: &Path) -> Result<Token, TokenError> {
    let wrong = |problem: String| {
        TokenError::Refused(format!(
            "reading the token's file {}: {problem}: let a valid token be written there, or correct \
             kafka.client.sasl.oauthbearer.token.endpoint.url",
            path.display()
        ))
    };
    let mut before = look(path).map_err(wrong)?;
    for _ in 0..LOOKS {
        sleep(BETWEEN_LOOKS).await;
        let now = look(path).map_err(wrong)?;
        if now == before {
            return Token::parse(&now).map_err(wrong);
        }
        before = now;
    }
    Err(wrong("it is written to all the time".to_owned()))
}

/// What is in the file at this moment. Waits for nobody who would write into a pipe.
fn look(path: &Path) -> Result<String, String> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).expect("the system takes flags as an i32");
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = opened.map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut text = String::new();
    let read = file.take(LARGEST as u64 + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match read > LARGEST {
        true => Err(format!("it has more than {LARGEST} bytes")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::tests::unsigned;

    #[tokio::test]
    async fn a_file_is_read_anew_each_time_and_what_is_wrong_with_it_names_file_and_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let missing = read(&path).await.unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()) && missing.contains("token.endpoint.url"), "{missing}");
        for name in ["anna", "bert"] {
            std::fs::write(&path, format!("{}\n", unsigned(&format!(r#"{{"sub":"{name}","exp":9}}"#)))).unwrap();
            assert_eq!(read(&path).await.unwrap().principal(), name);
        }
        std::fs::write(&path, "a".repeat(LARGEST + 1)).unwrap();
        let large = read(&path).await.unwrap_err();
        assert!(matches!(&large, TokenError::Refused(text) if text.contains("more than")), "{large}");
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_refused_and_nobody_waits_for_who_writes_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [folder.path(), &pipe] {
            let refused = read(path).await.unwrap_err();
            assert!(matches!(&refused, TokenError::Refused(text) if text.contains("no regular file")), "{refused}");
        }
    }

    /// A token that is cut off looks like one: only its signature is shorter.
    #[tokio::test(start_paused = true)]
    async fn a_token_is_taken_when_it_is_written_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let whole = format!("{}signature", unsigned(r#"{"sub":"anna","exp":9}"#));
        std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
        let written = async {
            sleep(BETWEEN_LOOKS / 2).await;
            std::fs::write(&path, &whole).unwrap();
        };
        let (token, ()) = tokio::join!(read(&path), written);
        assert_eq!(token.unwrap().reveal(), whole);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_written_to_all_the_time_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = async {
            for number in 0.. {
                std::fs::write(&path, number.to_string()).unwrap();
                sleep(BETWEEN_LOOKS / 2).await;
            }
        };
        std::fs::write(&path, "").unwrap();
        let given_up = tokio::select! {
            given_up = read(&path) => given_up.unwrap_err().to_string(),
            () = write => unreachable!(),
        };
        assert!(given_up.contains("all the time"), "{given_up}");
    }
}
