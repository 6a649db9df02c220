//! Every key there is, once: its name, what it takes, what it is when left out, and what it means.
//!
//! Loading, the suggestion for an unknown key, `config reference` and `config show` are all made from [`KEYS`], so that they
//! cannot disagree.

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Section and name, as `kafka.topics.campaigns`.
    pub name: &'static str,
    /// What it takes.
    pub kind: KeyKind,
    /// What it is when left out.
    pub fallback: Fallback,
    /// A value to show, as TOML spells it.
    pub example: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Text; the key's own rules are in [`super::check`].
    Text,
    /// Text that is never printed. `NAME_file` may be given in its place.
    Secret,
    /// The file that holds a secret.
    SecretFile,
    /// A file of PEM certificates.
    Certificates,
    /// A file of a PEM private key.
    PrivateKey,
    /// A connection string of Postgres, whose password is never printed.
    PostgresUrl,
    /// `schema.table`.
    Table,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number from the first to the second, both allowed.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// Bytes, with an optional unit, between the first and the second.
    Size(u64, u64),
    /// A span of time, in days at least the first and at most the second.
    Days(i64, i64),
    /// An address and a port.
    Address,
    /// `earliest`, `latest` or an RFC 3339 time.
    Start,
    /// Any settings of librdkafka.
    ClientSettings,
}

/// What a key is when left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It may not be left out.
    Required,
    /// Nothing.
    Nothing,
    /// This.
    Default(&'static str),
}

/// Starts the name of every environment variable of ours.
pub const PREFIX: &str = "DINNERBELL_";
/// The section that takes any setting of librdkafka.
pub const CLIENT: &str = "kafka.client";

use Fallback::{Default, Nothing, Required};

/// Every key there is, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    Key {
        name: "kafka.bootstrap_servers",
        kind: KeyKind::Text,
        fallback: Required,
        example: r#""localhost:9092""#,
        doc: "Where to find the cluster: host:port, comma separated.",
    },
    Key {
        name: "kafka.security_protocol",
        kind: KeyKind::Choice(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        fallback: Default("PLAINTEXT"),
        example: r#""SASL_SSL""#,
        doc: "How to talk to the cluster: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
    },
    Key {
        name: "kafka.sasl_mechanism",
        kind: KeyKind::Choice(&["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"]),
        fallback: Default("SCRAM-SHA-512"),
        example: r#""SCRAM-SHA-512""#,
        doc: "How to log in, where the protocol is one of SASL: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER. OAUTHBEARER \
              takes tokens from where sasl.oauthbearer.token.endpoint.url of kafka.client says, and has neither username nor password.",
    },
    Key {
        name: "kafka.username",
        kind: KeyKind::Text,
        fallback: Nothing,
        example: r#""dinnerbell""#,
        doc: "Who logs in. Needed where the protocol is one of SASL, but for OAUTHBEARER.",
    },
    Key {
        name: "kafka.password",
        kind: KeyKind::Secret,
        fallback: Nothing,
        example: r#""...""#,
        doc: "The password, or its file. Needed where the protocol is one of SASL, but for OAUTHBEARER.",
    },
    Key {
        name: "kafka.password_file",
        kind: KeyKind::SecretFile,
        fallback: Nothing,
        example: r#""/run/secrets/kafka""#,
        doc: "A file that holds nothing but the password; one newline at its end is ignored.",
    },
    Key {
        name: "kafka.ca_file",
        kind: KeyKind::Certificates,
        fallback: Nothing,
        example: r#""CA.pem""#,
        doc: "PEM file of the authority that signed the brokers' certificates; left out, the system's authorities are \
              trusted. A relative path starts at the folder of the configuration file (from the environment: at the \
              current folder); so do all paths here.",
    },
    Key {
        name: "kafka.group_id",
        kind: KeyKind::Text,
        fallback: Default("dinnerbell"),
        example: r#""dinnerbell""#,
        doc: "The consumer group that all instances share. It names the transactional ids too; the ledger belongs to it.",
    },
    Key {
        name: "kafka.start",
        kind: KeyKind::Start,
        fallback: Default("earliest"),
        example: r#""earliest""#,
        doc: "Where a new lane begins: earliest, latest, or an RFC 3339 time as 2026-03-01T12:00:00Z.",
    },
    Key {
        name: "kafka.topics.campaigns",
        kind: KeyKind::Text,
        fallback: Required,
        example: r#""promo.in""#,
        doc: "The topic in which campaigns arrive.",
    },
    Key {
        name: "kafka.topics.notifications",
        kind: KeyKind::Text,
        fallback: Required,
        example: r#""promo.out""#,
        doc: "The topic to which drafts go.",
    },
    Key {
        name: "kafka.topics.dead_letters",
        kind: KeyKind::Text,
        fallback: Nothing,
        example: r#""promo.in.dead""#,
        doc: "The topic to which dead letters go, besides the ledger. Left out, only the ledger has them.",
    },
    Key {
        name: CLIENT,
        kind: KeyKind::ClientSettings,
        fallback: Nothing,
        example: r#""compression.type" = "zstd""#,
        doc: "Any setting of librdkafka (string, number or boolean); those that the promises rest on, and those that would do nothing, \
              are refused by name. Drafts are sent by a client of our own, which obeys compression.type (lz4), compression.level (of gzip \
              and zstd), message.max.bytes, client.id, ssl.*, broker.address.family, connections.max.idle.ms (200 s) and socket.keepalive.enable \
              (true); the other settings are about reading and the group. \
              In an environment variable each dot of the setting is an underscore: \
              DINNERBELL_KAFKA__CLIENT__FETCH_MIN_BYTES is fetch.min.bytes. ssl.key.password, ssl.keystore.password and \
              sasl.oauthbearer.client.secret can be given as a file too: \"ssl.key.password_file\". Of sasl.oauthbearer.* there are method \
              (oidc), token.endpoint.url (https://, http:// or file:///), client.id, client.secret, scope and grant.type, and beside them \
              https.ca.location and https.ca.pem.",
    },
    Key {
        name: "subscribers.url",
        kind: KeyKind::PostgresUrl,
        fallback: Required,
        example: r#""postgres://dinnerbell@replica/de?sslmode=verify-full""#,
        doc: "The database of the subscribers, as libpq spells it: a URL or key=value words; sslmode is disable, prefer \
              (the default; allow is taken for it), require, verify-ca or verify-full; &sslrootcert=CA.pem names a private authority, \
              and means verify-full unless sslmode says otherwise. It may be \
              a read-only, lagging replica.",
    },
    Key {
        name: "subscribers.password",
        kind: KeyKind::Secret,
        fallback: Nothing,
        example: r#""...""#,
        doc: "The password, or its file, where the URL holds none.",
    },
    Key {
        name: "subscribers.password_file",
        kind: KeyKind::SecretFile,
        fallback: Nothing,
        example: r#""/run/secrets/replica""#,
        doc: "A file that holds nothing but the password; one newline at its end is ignored.",
    },
    Key {
        name: "subscribers.table",
        kind: KeyKind::Table,
        fallback: Default("public.subscribers_restaurants"),
        example: r#""public.subscribers_restaurants""#,
        doc: "The table of the subscribers: schema.table. A name of other than lower-case letters, digits and _ stands \
              in double quotes.",
    },
    Key {
        name: "subscribers.max_connections",
        kind: KeyKind::Integer(1, 100),
        fallback: Default("4"),
        example: "4",
        doc: "Most connections of one instance to the database of the subscribers.",
    },
    Key {
        name: "feedback.url",
        kind: KeyKind::PostgresUrl,
        fallback: Required,
        example: r#""postgres://dinnerbell@analytics/de""#,
        doc: "The database of the feedback, where the ledger is kept too. It must be writable; with several hosts the \
              writable one is looked for.",
    },
    Key {
        name: "feedback.password",
        kind: KeyKind::Secret,
        fallback: Nothing,
        example: r#""...""#,
        doc: "The password, or its file, where the URL holds none.",
    },
    Key {
        name: "feedback.password_file",
        kind: KeyKind::SecretFile,
        fallback: Nothing,
        example: r#""/run/secrets/analytics""#,
        doc: "A file that holds nothing but the password; one newline at its end is ignored.",
    },
    Key {
        name: "feedback.table",
        kind: KeyKind::Table,
        fallback: Default("public.subscribers_feedback"),
        example: r#""public.subscribers_feedback""#,
        doc: "The table of the feedback: schema.table.",
    },
    Key {
        name: "feedback.max_connections",
        kind: KeyKind::Integer(2, 100),
        fallback: Default("8"),
        example: "8",
        doc: "Most connections of one instance to the database of the feedback. A pooler's pool needs room for all \
              instances and to spare.",
    },
    Key {
        name: "fanout.round_rows",
        kind: KeyKind::Integer(1, 100_000),
        fallback: Default("20000"),
        example: "20000",
        doc: "Most drafts in one round, newcomers included. A round holds 24 MiB of messages and rows at most, whatever this says, and what the \
              link to Kafka carries in ten seconds.",
    },
    Key {
        name: "fanout.late_subscribers",
        kind: KeyKind::Boolean,
        fallback: Default("true"),
        example: "true",
        doc: "Whether those are told who begin to favour the restaurant while its campaign runs.",
    },
    Key {
        name: "fanout.rate_limit",
        kind: KeyKind::Integer(0, 1_000_000_000),
        fallback: Default("0"),
        example: "0",
        doc: "Most drafts a second for the whole instance, in bursts of at most one second; 0 is no limit.",
    },
    Key {
        name: "fanout.memory_limit",
        kind: KeyKind::Size(1 << 20, 1 << 36),
        fallback: Default("64MiB"),
        example: r#""64MiB""#,
        doc: "Memory for drafts in flight, all lanes together: bytes, or with KiB, MiB or GiB.",
    },
    Key {
        name: "retention.rounds",
        kind: KeyKind::Days(1, 3650),
        fallback: Default("7d"),
        example: r#""7d""#,
        doc: "How long the ledger keeps rounds, and changes that were applied: days, or a span as 2w. The last two rounds of \
              a lane, and what is not published, stay at any age.",
    },
    Key {
        name: "retention.dead_letters",
        kind: KeyKind::Days(1, 3650),
        fallback: Default("30d"),
        example: r#""30d""#,
        doc: "How long the ledger keeps dead letters. Those that are yet to be sent to kafka.topics.dead_letters stay.",
    },
    Key {
        name: "retention.campaigns",
        kind: KeyKind::Days(7, 3650),
        fallback: Default("90d"),
        example: r#""90d""#,
        doc: "How long the ledger keeps campaigns after their end. One that is sent again later is new to it: it expires if its end \
              has passed, and clients with a feedback row for it are not told again.",
    },
    Key {
        name: "retention.audit",
        kind: KeyKind::Days(30, 3650),
        fallback: Default("365d"),
        example: r#""365d""#,
        doc: "How long the ledger keeps who gave which order (`dinnerbell audit`).",
    },
    Key {
        name: "http.listen",
        kind: KeyKind::Address,
        fallback: Default("127.0.0.1:8080"),
        example: r#""127.0.0.1:8080""#,
        doc: "Where the page, its API, /healthz, /readyz and /metrics are served; port 0 takes a free one. Beyond this machine, all but \
              /healthz, /readyz and /metrics needs TLS: see http.cert_file.",
    },
    Key {
        name: "http.token",
        kind: KeyKind::Secret,
        fallback: Nothing,
        example: r#""...""#,
        doc: "The token, or its file, of operators: who signs in with it may read and order. With neither token, and without \
              http.user_header, everybody on this machine may, and nobody else.",
    },
    Key {
        name: "http.token_file",
        kind: KeyKind::SecretFile,
        fallback: Nothing,
        example: r#""/run/secrets/dinnerbell-token""#,
        doc: "A file that holds nothing but the token; one newline at its end is ignored. When the file changes, the new token counts within \
              seconds, and who signed in with the old one is signed out.",
    },
    Key {
        name: "http.viewer_token",
        kind: KeyKind::Secret,
        fallback: Nothing,
        example: r#""...""#,
        doc: "The token, or its file, of viewers: who signs in with it may read, and order nothing.",
    },
    Key {
        name: "http.viewer_token_file",
        kind: KeyKind::SecretFile,
        fallback: Nothing,
        example: r#""/run/secrets/dinnerbell-viewer""#,
        doc: "A file that holds nothing but the viewers' token; when it changes, the same happens as with http.token_file.",
    },
    Key {
        name: "http.cert_file",
        kind: KeyKind::Certificates,
        fallback: Nothing,
        example: r#""server.pem""#,
        doc: "PEM file of this service's certificate, followed by those of the authorities between. With it, HTTP is served with TLS; /healthz, \
              /readyz and /metrics are answered without TLS too. When the file changes, the new certificate counts within seconds.",
    },
    Key {
        name: "http.key_file",
        kind: KeyKind::PrivateKey,
        fallback: Nothing,
        example: r#""server.key""#,
        doc: "PEM file of the private key of http.cert_file, without a passphrase.",
    },
    Key {
        name: "http.hosts",
        kind: KeyKind::Text,
        fallback: Nothing,
        example: r#""bell.example.org""#,
        doc: "Names by which browsers call the page, comma separated and without port. Addresses, localhost and this machine's own name need \
              not be listed; any other name is refused, since it may be a trick (DNS rebinding).",
    },
    Key {
        name: "http.user_header",
        kind: KeyKind::Text,
        fallback: Nothing,
        example: r#""X-Forwarded-User""#,
        doc: "A header in which a proxy in front says who asks: whom it names needs no token. The proxy must take it out of what it is sent.",
    },
    Key {
        name: "http.user_header_from",
        kind: KeyKind::Text,
        fallback: Nothing,
        example: r#""127.0.0.1, 10.1.0.0/16""#,
        doc: "Addresses or networks of that proxy, comma separated: from others the header is ignored. Needed with http.user_header.",
    },
    Key {
        name: "http.user_header_role",
        kind: KeyKind::Choice(&["viewer", "operator"]),
        fallback: Default("viewer"),
        example: r#""viewer""#,
        doc: "What those may whom the proxy names: viewer reads, operator reads and orders.",
    },
    Key {
        name: "http.insecure",
        kind: KeyKind::Boolean,
        fallback: Default("false"),
        example: "false",
        doc: "Whether the page and its API are served beyond this machine without TLS: tokens and client ids can be read on their way then, unless \
              a proxy of your own does TLS. The proxy of http.user_header_from needs it not.",
    },
];

impl Key {
    /// The key of this name, if there is one.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The section, as `kafka.topics`.
    pub fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The name within its section.
    pub fn word(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, word)| word)
    }

    /// Its environment variable, as `DINNERBELL_KAFKA__TOPICS__CAMPAIGNS`.
    pub fn variable(&self) -> String {
        variable(self.name)
    }

    /// The other way in which the same secret can be given: `password` and `password_file`.
    pub fn twin(&self) -> Option<&'static Self> {
        match self.kind {
            KeyKind::Secret => Self::find(&format!("{}_file", self.name)),
            KeyKind::SecretFile => self.name.strip_suffix("_file").and_then(Self::find),
            _ => None,
        }
    }
}

/// The environment variable of a key.
pub fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "__").to_uppercase())
}

/// Whether keys lie below this name.
pub fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The section nearest to a name that is none; nothing where none is like it.
pub fn nearest_section(name: &str) -> Option<&'static str> {
    let sections = KEYS.iter().filter_map(|key| key.name.rsplit_once('.')).map(|(section, _)| section);
    let near = sections.map(|section| (strsim::damerau_levenshtein(name, section), section));
    near.filter(|(distance, section)| *distance <= section.len() / 3).min().map(|(_, section)| section)
}

fn outermost(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The key nearest to a name that is none: the same word in another section, else the fewest typing mistakes away.
pub fn nearest(name: &str) -> &'static str {
    let distance = |key: &Key| {
        let word = name.rsplit('.').next().unwrap_or(name);
        let whole = strsim::damerau_levenshtein(name, key.name);
        // Of keys with the same word, the one that is not as far away: below the same outermost section.
        let elsewhere = outermost(name) != outermost(key.name);
        (if word == key.word() { whole.min(2) } else { whole }, elsewhere, whole)
    };
    KEYS.iter().min_by_key(|key| distance(key)).map_or("", |key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_has_its_file_and_every_name_is_unique() {
        for key in KEYS {
            assert_eq!(KEYS.iter().filter(|other| other.name == key.name).count(), 1, "{}", key.name);
            if matches!(key.kind, KeyKind::Secret | KeyKind::SecretFile) {
                assert_eq!(key.twin().and_then(Key::twin).map(|twin| twin.name), Some(key.name));
            }
        }
    }

    #[test]
    fn the_nearest_key_is_found_for_a_typing_mistake_a_wrong_section_and_a_missing_underscore() {
        assert_eq!(nearest("kafka.bootstrap_server"), "kafka.bootstrap_servers");
        assert_eq!(nearest("kafka.campaigns"), "kafka.topics.campaigns");
        assert_eq!(nearest("kafka_group_id"), "kafka.group_id");
        assert_eq!(nearest("feedback.tabel"), "feedback.table");
    }

    #[test]
    fn a_section_is_suggested_only_where_one_is_like_the_name() {
        assert_eq!(nearest_section("feedbak"), Some("feedback"));
        assert_eq!(nearest_section("kafka.topic"), Some("kafka.topics"));
        assert_eq!([nearest_section("foo"), nearest_section("x")], [None, None]);
    }
}
