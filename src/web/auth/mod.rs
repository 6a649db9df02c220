//! Who asks, and what they may.
//!
//! [`keys`] holds the tokens, [`session`] the cookie of who signed in, [`attempts`] slows down guesses, [`origin`] refuses what another
//! page sends, and [`guard`] puts these together before every answer.

pub mod attempts;
pub mod guard;
pub mod keys;
pub mod origin;
pub mod session;
pub mod sign_in;

pub use crate::web::identity::Role;

use crate::web::identity::Identity;
use dinnerbell_core::model::audit::{Orderer, Origin};

/// Somebody who may at least read.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// How they call themselves.
    pub name: String,
    /// What they may.
    pub role: Role,
    /// How they are known.
    pub way: Way,
    /// What a form must send back: a page of somebody else cannot know it.
    pub form_token: String,
}

/// How somebody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// There is no token, and they are on this machine.
    Local,
    /// By a token that the request itself holds: no page of somebody else can send it.
    Bearer,
    /// By the cookie of who signed in.
    Session,
    /// By the word of a proxy.
    Proxy,
}

impl Visitor {
    /// Whether they may order.
    pub fn is_operator(&self) -> bool {
        self.role.may_order()
    }

    /// Who asks, as the API knows them.
    pub fn identity(&self) -> Identity {
        Identity { name: self.name.clone(), role: self.role }
    }

    /// Whether a form that they sent is of a page that they were shown. A token that the request holds is proof of it.
    pub fn has_signed(&self, form_token: &str) -> bool {
        let (own, given) = (self.form_token.as_bytes(), form_token.as_bytes());
        self.way == Way::Bearer || own.len() == given.len() && openssl::memcmp::eq(own, given)
    }

    /// Who orders, as the ledger keeps it; `host` is this machine.
    pub fn orders(&self, host: &str) -> Orderer {
        Orderer { who: self.name.clone(), by: "page".to_owned(), origin: Origin::Page, host: host.to_owned() }
    }
}

/// A name as the ledger keeps it: one line that is not blank.
pub fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let allowed = !text.is_empty() && text.chars().count() <= 64 && !text.chars().any(char::is_control);
    allowed.then(|| text.to_owned())
}
