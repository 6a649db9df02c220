//! Where tokens come from.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::jwt::LARGEST;
use crate::{Endpoint, Token, TokenError};

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
            Self::File(path) => read(path),
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

fn read(path: &Path) -> Result<Token, TokenError> {
    let wrong = |problem: String| {
        TokenError::Refused(format!(
            "reading the token's file {}: {problem}: let a valid token be written there, or correct \
             kafka.client.sasl.oauthbearer.token.endpoint.url",
            path.display()
        ))
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let most = LARGEST as u64;
    let read = file.take(most + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if read > LARGEST {
        return Err(wrong(format!("it has more than {LARGEST} bytes")));
    }
    Token::parse(&text).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::tests::unsigned;

    #[test]
    fn a_file_is_read_anew_each_time_and_what_is_wrong_with_it_names_file_and_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let missing = read(&path).unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()) && missing.contains("token.endpoint.url"), "{missing}");
        for name in ["anna", "bert"] {
            std::fs::write(&path, format!("{}\n", unsigned(&format!(r#"{{"sub":"{name}","exp":9}}"#)))).unwrap();
            assert_eq!(read(&path).unwrap().principal(), name);
        }
        std::fs::write(&path, "a".repeat(LARGEST + 1)).unwrap();
        let large = read(&path).unwrap_err();
        assert!(matches!(&large, TokenError::Refused(text) if text.contains("more than")), "{large}");
    }
}
