//! The cookie of who signed in. It holds all there is to know, signed with a key that follows from the token: every instance reads it, none
//! keeps anything, and it is void when the token changes.

use super::keys::Keys;
use super::{Role, Visitor, Way};
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::text_table::hex;

/// How long a session lasts, in seconds.
pub const LASTS: i64 = 12 * 3600;
/// Longer than any of ours.
const LONGEST: usize = 1024;

/// Who signed in, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// How they call themselves.
    pub name: String,
    /// What they may.
    pub role: Role,
    /// When they signed in.
    pub since: Seconds,
}

impl Session {
    /// The cookie's value; none where the role has no token any more.
    pub fn seal(&self, keys: &Keys) -> Option<String> {
        let content = format!("1.{}.{}.{}", self.role.name(), self.since, hex(self.name.as_bytes()));
        let mac = keys.of(self.role)?.sign(content.as_bytes());
        Some(format!("{content}.{}", hex(&mac)))
    }

    /// Whom a cookie's value names; nobody where it is not ours, or too old, or its token is not the one that counts.
    pub fn open(value: &str, keys: &Keys, now: Seconds) -> Option<Visitor> {
        if value.len() > LONGEST {
            return None;
        }
        let (content, mac) = value.rsplit_once('.')?;
        let parts: Vec<&str> = content.split('.').collect();
        let ["1", role, since, name] = parts.as_slice() else { return None };
        let role = [Role::Viewer, Role::Operator].into_iter().find(|own| own.name() == *role)?;
        let key = keys.of(role)?;
        let mac: [u8; 32] = unhex(mac)?.try_into().ok()?;
        if !openssl::memcmp::eq(&key.sign(content.as_bytes()), &mac) {
            return None;
        }
        let since: Seconds = since.parse().ok()?;
        let until = Seconds::new(since.get().saturating_add(LASTS));
        if !(since..until).contains(&now.max(since)) {
            return None;
        }
        let name = String::from_utf8(unhex(name)?).ok()?;
        let form_token = hex(&key.sign(format!("form {value}").as_bytes()));
        Some(Visitor { name, role, way: Way::Session, form_token })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_config::{Http, Secret, Token};

    const NOW: Seconds = Seconds::new(1_700_000_000);

    fn keys(operator: &str, viewer: &str) -> Keys {
        let token = |text: &str| Some(Token { secret: Secret::new(text.to_owned()), file: None });
        let listen = ([127, 0, 0, 1], 0).into();
        Keys::new(&Http { token: token(operator), viewer_token: token(viewer), ..Http::at(listen) })
    }

    fn anna(role: Role) -> Session {
        Session { name: "Анна \u{202e}.".to_owned(), role, since: NOW }
    }

    #[test]
    fn a_cookie_is_valid_wherever_the_token_is_the_same_until_it_is_too_old() {
        let cookie = anna(Role::Operator).seal(&keys("a", "b")).unwrap();
        let visitor = Session::open(&cookie, &keys("a", "c"), NOW + LASTS - 1).unwrap();
        assert_eq!((visitor.name.as_str(), visitor.role), ("Анна \u{202e}.", Role::Operator));
        assert!(Session::open(&cookie, &keys("a", "b"), NOW + LASTS).is_none());
        assert!(Session::open(&cookie, &keys("other", "b"), NOW).is_none(), "the token changed");
    }

    #[test]
    fn a_cookie_that_was_changed_is_nobodys() {
        let keys = keys("a", "b");
        let cookie = anna(Role::Viewer).seal(&keys).unwrap();
        assert!(Session::open(&cookie, &keys, NOW).is_some());
        let longer = cookie.replace(&NOW.to_string(), &(NOW + 9).to_string());
        for wrong in
            [cookie.replace("viewer", "operator"), longer, format!("{cookie}0"), cookie[..cookie.len() - 2].to_owned()]
        {
            assert!(Session::open(&wrong, &keys, NOW).is_none(), "{wrong}");
        }
        for wrong in ["", ".", "1.viewer.1.", "1.viewer.x.00.00", "2.viewer.1.00.00"] {
            assert!(Session::open(wrong, &keys, NOW).is_none(), "{wrong}");
        }
    }

    #[test]
    fn each_session_has_a_form_token_of_its_own() {
        let keys = keys("a", "b");
        let open = |session: Session| Session::open(&session.seal(&keys).unwrap(), &keys, NOW + 1).unwrap().form_token;
        assert_ne!(open(anna(Role::Viewer)), open(Session { since: NOW + 1, ..anna(Role::Viewer) }));
        assert_eq!(open(anna(Role::Viewer)), open(anna(Role::Viewer)));
    }
}
