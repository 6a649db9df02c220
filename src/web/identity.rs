//! Who asks over HTTP, and what they may do: decided once, where a request comes in, and handed to the answer as an extension.

pub use dinnerbell_config::http::Role;

/// Who asks. A request that has none was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name that they gave when they signed in, or that the proxy in front gave; kept with each order.
    pub name: String,
    /// What they may do.
    pub role: Role,
}
