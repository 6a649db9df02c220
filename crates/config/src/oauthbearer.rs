//! `[kafka.client]` `sasl.oauthbearer.*`: how tokens are come by. The names are librdkafka's; the tokens are fetched by ourselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dinnerbell_token::{Endpoint, EndpointSettings, Source, Tokens};

/// The mechanism that these settings are for.
pub const MECHANISM: &str = "OAUTHBEARER";

const METHOD: &str = "sasl.oauthbearer.method";
const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
const GRANT: &str = "sasl.oauthbearer.grant.type";
const CA_FILE: &str = "https.ca.location";
const CA_TEXT: &str = "https.ca.pem";

/// Settings that are ours to obey: librdkafka never sees them.
pub const NAMES: &[&str] = &[METHOD, URL, CLIENT_ID, CLIENT_SECRET, SCOPE, GRANT, CA_FILE, CA_TEXT];

/// Those that a file of tokens has no use for.
const OF_ENDPOINTS: &[&str] = &[CLIENT_ID, CLIENT_SECRET, SCOPE, GRANT, CA_FILE, CA_TEXT];

/// What to do where tokens come from elsewhere.
const BY_FILE: &str =
    "let the token be written into a file, and set sasl.oauthbearer.token.endpoint.url = \"file:///path/of/it\"";

/// What to do where tokens would be made here, without a signature.
const UNSECURED: &str = "tokens are made by who issues them: set sasl.oauthbearer.method = \"oidc\"; for tests, let an unsecured token be written \
                         into a file, and set sasl.oauthbearer.token.endpoint.url = \"file:///path/of/it\"";

/// Settings that are refused, what is missing, and what to do instead.
pub const REFUSED: &[(&str, &str)] = &[
    ("sasl.oauthbearer.extensions", "the clients that read send no extensions: the brokers must do without"),
    ("sasl.oauthbearer.config", UNSECURED),
    ("enable.sasl.oauthbearer.unsecure.jwt", UNSECURED),
    (
        "sasl.oauthbearer.assertion.",
        "of the grants only client_credentials is there: use sasl.oauthbearer.client.id and .client.secret, or let the token be written \
         into a file, and set sasl.oauthbearer.token.endpoint.url = \"file:///path/of/it\"",
    ),
    (
        "sasl.oauthbearer.metadata.",
        "no metadata service is asked for tokens: let the token be written into a file, and set \
         sasl.oauthbearer.token.endpoint.url = \"file:///path/of/it\"",
    ),
    (
        "sasl.oauthbearer.",
        "of sasl.oauthbearer there are method, token.endpoint.url, client.id, client.secret, scope and grant.type",
    ),
];

/// Checks the value of one of [`NAMES`].
pub fn check(name: &str, value: &str) -> Result<(), String> {
    if value.trim().is_empty() || value.contains('\0') || name != CA_TEXT && value.contains(char::is_control) {
        return Err("must not be blank, nor hold control characters".to_owned());
    }
    match (name, value) {
        (METHOD, "oidc") | (GRANT, "client_credentials") => Ok(()),
        (METHOD, "default") => {
            Err(format!("cannot be default, which makes unsecured tokens: set it to \"oidc\"; for tests, {BY_FILE}"))
        }
        (METHOD, _) => Err("must be \"oidc\"".to_owned()),
        (GRANT, _) => Err(format!("must be \"client_credentials\"; where that does not do, {BY_FILE}")),
        _ => Ok(()),
    }
}

/// A mistake: the setting, and what is wrong with it.
pub type Problem = (&'static str, String);

/// The tokens of these settings; nothing is fetched. Returns all that is wrong with them together.
pub fn tokens(settings: &BTreeMap<String, String>) -> Result<Tokens, Vec<Problem>> {
    let mut wrong: Vec<Problem> = Vec::new();
    let needed = "is needed with kafka.sasl_mechanism = \"OAUTHBEARER\"";
    if !settings.contains_key(METHOD) {
        wrong.push((METHOD, format!("{needed}: set it to \"oidc\"")));
    }
    let Some(url) = settings.get(URL) else {
        wrong.push((URL, format!("{needed}: an address as https://host/path, or file:///path of a file of tokens")));
        return Err(wrong);
    };
    let source = match url.trim().strip_prefix("file://") {
        Some(path) => file(path, settings),
        None => endpoint(url, settings),
    };
    match source {
        Ok(source) if wrong.is_empty() => Ok(Tokens::new(source)),
        Ok(_) => Err(wrong),
        Err(more) => Err([wrong, more].concat()),
    }
}

fn file(path: &str, settings: &BTreeMap<String, String>) -> Result<Source, Vec<Problem>> {
    let needless = OF_ENDPOINTS.iter().filter(|name| settings.contains_key(**name));
    let mut wrong: Vec<Problem> =
        needless.map(|name| (*name, format!("is of no use where {URL} is a file: leave it out"))).collect();
    if !path.starts_with('/') {
        wrong.push((URL, "must have three slashes, and the whole path: file:///path/of/the/token".to_owned()));
    }
    if wrong.is_empty() { Ok(Source::File(PathBuf::from(path))) } else { Err(wrong) }
}

fn endpoint(url: &str, settings: &BTreeMap<String, String>) -> Result<Source, Vec<Problem>> {
    let mut wrong: Vec<Problem> = [CLIENT_ID, CLIENT_SECRET]
        .into_iter()
        .filter(|name| !settings.contains_key(*name))
        .map(|name| (name, format!("is needed with {URL}")))
        .collect();
    let text = |name: &str| settings.get(name).cloned().unwrap_or_default();
    let roots = match (settings.get(CA_FILE), settings.get(CA_TEXT)) {
        (Some(_), Some(_)) => {
            wrong.push((CA_TEXT, format!("is given, and {CA_FILE} too: keep one of them")));
            None
        }
        (Some(file), None) => {
            let read = std::fs::read(file).map_err(|error| format!("cannot be read from {file}: {error}"));
            read.map_err(|problem| wrong.push((CA_FILE, problem))).ok()
        }
        (None, text) => text.map(|text| text.clone().into_bytes()),
    };
    let made = Endpoint::new(&EndpointSettings {
        url: url.to_owned(),
        client_id: text(CLIENT_ID),
        client_secret: text(CLIENT_SECRET),
        scope: text(SCOPE),
        roots,
    });
    match made {
        Ok(endpoint) if wrong.is_empty() => Ok(Source::Endpoint(endpoint)),
        Ok(_) => Err(wrong),
        Err(problem) => {
            wrong.push((URL, problem));
            Err(wrong)
        }
    }
}

#[cfg(test)]
mod tests;
