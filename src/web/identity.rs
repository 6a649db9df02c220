//! Who asks over HTTP, and what they may do: decided once, where a request comes in, and handed to whoever answers it as an extension.

/// Who asks. A request that has none was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name that they gave when they signed in, or that the proxy in front gave; kept with each order.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and order.
    Operator,
}

impl Role {
    /// Whether they may order.
    pub fn may_order(self) -> bool {
        self == Self::Operator
    }

    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl From<dinnerbell_config::http::Role> for Role {
    fn from(role: dinnerbell_config::http::Role) -> Self {
        match role {
            dinnerbell_config::http::Role::Viewer => Self::Viewer,
            dinnerbell_config::http::Role::Operator => Self::Operator,
        }
    }
}
