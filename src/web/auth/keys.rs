//! The tokens that count now: those of the configuration, or what has come into their files since.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use sha2::{Digest, Sha256};

use super::Role;
use dinnerbell_config::http::read_token;
use dinnerbell_config::{Http, Secret, Token};
use dinnerbell_core::periodic::Periodic;

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What follows from a token.
#[derive(Clone)]
pub struct Key {
    /// Its hash: compared with the hash of what is shown, so that its length is told by nothing.
    digest: [u8; 32],
    /// What its sessions are signed with: another token signs with another key, so that its sessions end with it.
    signing: [u8; 32],
}

impl Key {
    fn of(token: &Secret) -> Self {
        let token = token.reveal().as_bytes();
        Self { digest: Sha256::digest(token).into(), signing: hmac(token, b"dinnerbell page session") }
    }

    /// Whether this is the token, in constant time.
    fn is(&self, shown: &[u8; 32]) -> bool {
        openssl::memcmp::eq(&self.digest, shown)
    }

    /// Signs what a session holds.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        hmac(&self.signing, message)
    }
}

/// The keys of both roles.
#[derive(Clone, Default)]
struct Both {
    operator: Option<Key>,
    viewer: Option<Key>,
}

/// The tokens, and the files they come from.
pub struct Keys {
    files: [(Role, Option<Token>); 2],
    now: RwLock<Arc<Both>>,
}

impl Keys {
    /// Those of the configuration.
    pub fn new(http: &Http) -> Self {
        let key = |token: &Option<Token>| token.as_ref().map(|token| Key::of(&token.secret));
        let both = Both { operator: key(&http.token), viewer: key(&http.viewer_token) };
        let files = [(Role::Operator, http.token.clone()), (Role::Viewer, http.viewer_token.clone())];
        Self { files, now: RwLock::new(Arc::new(both)) }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.files.iter().any(|(_, token)| token.is_some())
    }

    /// Of whose role a token is. Both are compared, whatever the first comparison says.
    pub fn role_of(&self, token: &str) -> Option<Role> {
        let shown = Sha256::digest(token.as_bytes()).into();
        let now = self.both();
        let is = |key: &Option<Key>| key.as_ref().is_some_and(|key| key.is(&shown));
        match (is(&now.operator), is(&now.viewer)) {
            (true, _) => Some(Role::Operator),
            (false, true) => Some(Role::Viewer),
            (false, false) => None,
        }
    }

    /// The key of a role's token.
    pub fn of(&self, role: Role) -> Option<Key> {
        let now = self.both();
        match role {
            Role::Operator => now.operator.clone(),
            Role::Viewer => now.viewer.clone(),
        }
    }

    fn both(&self) -> Arc<Both> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up what changes in the files, until it is dropped. What is no token is said in the log, and the token before stays.
    pub async fn follow(&self) -> Infallible {
        let (mut said, mut checks) = ([None, None], Periodic::at_once(CHECK_INTERVAL));
        loop {
            checks.due().await;
            for ((role, token), said) in self.files.iter().zip(&mut said) {
                let Some(file) = token.as_ref().and_then(|token| token.file.clone()) else { continue };
                let read = tokio::task::spawn_blocking(move || read_token(&file)).await;
                let problem = match read.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(token) => self.take_up(*role, &token).err(),
                    Err(problem) => Some(problem),
                };
                if problem != *said {
                    if let Some(problem) = &problem {
                        tracing::warn!(role = role.name(), "the token before stays: {problem}");
                    }
                    *said = problem;
                }
            }
        }
    }

    fn take_up(&self, role: Role, token: &Secret) -> Result<(), String> {
        let now = self.both();
        let found = Key::of(token);
        let (own, other) = match role {
            Role::Operator => (&now.operator, &now.viewer),
            Role::Viewer => (&now.viewer, &now.operator),
        };
        if own.as_ref().is_some_and(|own| own.is(&found.digest)) {
            return Ok(());
        }
        if other.as_ref().is_some_and(|other| other.is(&found.digest)) {
            return Err("both tokens would be the same".to_owned());
        }
        let both = match role {
            Role::Operator => Both { operator: Some(found), viewer: now.viewer.clone() },
            Role::Viewer => Both { operator: now.operator.clone(), viewer: Some(found) },
        };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(both);
        tracing::info!(
            role = role.name(),
            "the token's file changed: the new token counts, and who signed in with the old one is signed out"
        );
        Ok(())
    }
}

/// HMAC-SHA256.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let sign = || {
        let key = PKey::hmac(key)?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
        let mut mac = [0; 32];
        signer.sign_oneshot(&mut mac, message)?;
        Ok::<_, openssl::error::ErrorStack>(mac)
    };
    sign().expect("HMAC-SHA256 of any key and message is 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Option<Token> {
        Some(Token { secret: Secret::new(text.to_owned()), file: None })
    }

    fn keys() -> Keys {
        let http = Http { token: token("order"), viewer_token: token("read"), ..Http::at(([127, 0, 0, 1], 0).into()) };
        Keys::new(&http)
    }

    #[test]
    fn a_token_has_the_role_that_the_configuration_gives_it() {
        let keys = keys();
        assert_eq!([keys.role_of("order"), keys.role_of("read")], [Some(Role::Operator), Some(Role::Viewer)]);
        for wrong in ["", "orde", "order ", "reads"] {
            assert_eq!(keys.role_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_new_token_replaces_the_old_one_and_signs_otherwise() {
        let keys = keys();
        let before = keys.of(Role::Operator).unwrap().sign(b"x");
        keys.take_up(Role::Operator, &Secret::new("other".to_owned())).unwrap();
        assert_eq!([keys.role_of("order"), keys.role_of("other")], [None, Some(Role::Operator)]);
        assert_ne!(keys.of(Role::Operator).unwrap().sign(b"x"), before);
        assert!(keys.take_up(Role::Viewer, &Secret::new("other".to_owned())).is_err(), "a viewer could order");
        assert_eq!(keys.role_of("read"), Some(Role::Viewer));
    }

    #[test]
    fn the_code_is_that_of_rfc_4231() {
        let mac: String =
            hmac(b"Jefe", b"what do ya want for nothing?").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
