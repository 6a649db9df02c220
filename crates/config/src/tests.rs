//! Loading as a whole: precedence, every kind of mistake, and that nothing secret is ever printed.

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::check::check;
use super::*;

/// A complete configuration, to which a test adds.
const MINIMAL: &str = r#"
    [kafka]
    bootstrap_servers = "localhost:9092"
    [kafka.topics]
    campaigns = "promo.in"
    notifications = "promo.out"
    [subscribers]
    url = "postgres://u@replica/de"
    [feedback]
    url = "postgres://u@analytics/de"
"#;

/// A folder with a configuration file and whatever it names.
struct Folder(TempDir);

impl Folder {
    fn new(toml: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("dinnerbell.toml", toml);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self, environment: &[(&str, &str)]) -> Settings {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::gather(Some(&self.path("dinnerbell.toml")), environment)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        check(&self.settings(environment))
    }
}

/// The minimal configuration with a line more in one section.
fn with(section: &str, line: &str) -> String {
    let heading = format!("[{section}]\n");
    match MINIMAL.contains(&heading) {
        true => MINIMAL.replace(&heading, &format!("{heading}{line}\n")),
        false => format!("{MINIMAL}\n{heading}{line}\n"),
    }
}

#[test]
fn the_minimal_configuration_has_the_defaults_of_the_contract() {
    let config = Folder::new(MINIMAL).load(&[]).unwrap();
    assert_eq!(config.kafka.security_protocol, "PLAINTEXT");
    assert_eq!(config.kafka.group_id, "dinnerbell");
    assert_eq!(config.kafka.start, Start::Earliest);
    assert_eq!(config.kafka.topics.dead_letters, None);
    assert!(config.kafka.sasl.is_none() && config.http.token.is_none());
    assert_eq!(config.subscribers.table.sql(), r#""public"."subscribers_restaurants""#);
    assert_eq!(config.feedback.table.sql(), r#""public"."subscribers_feedback""#);
    assert_eq!((config.subscribers.max_connections, config.feedback.max_connections), (4, 8));
    assert_eq!(config.feedback.tls.mode, SslMode::Prefer);
    assert_eq!((config.fanout.round_rows, config.fanout.rate_limit), (20_000, 0));
    assert_eq!(config.fanout.memory_limit, 64 << 20);
    assert!(config.fanout.late_subscribers);
    assert_eq!(config.retention.campaigns.as_secs(), 90 * 86_400);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn the_reference_is_a_configuration_without_a_mistake() {
    let config = Folder::new(&show::reference()).load(&[]).unwrap();
    assert_eq!(config.kafka.topics.campaigns, "promo.in");
    // Every line that is commented out is one too, less the value of a secret beside its file, and files that are not there.
    let folder = Folder::new("");
    let (ca, secret) = (folder.path("CA.pem"), folder.path("secret"));
    let text: String = show::reference()
        .lines()
        .filter(|line| !line.contains(r#" = "...""#))
        .map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line))
        .map(|line| line.replace("/run/secrets", secret.parent().unwrap().to_str().unwrap()) + "\n")
        .collect();
    folder.write("dinnerbell.toml", &text);
    let (certificate, key) = certificate();
    std::fs::write(ca, &certificate).unwrap();
    folder.write("server.pem", &certificate);
    folder.write("server.key", &key);
    for name in ["kafka", "replica", "analytics", "dinnerbell-token"] {
        folder.write(name, "s3cret\n");
    }
    folder.write("dinnerbell-viewer", "v1ewer\n");
    let config = folder.load(&[]).unwrap();
    let Some(Sasl::Password { password, .. }) = config.kafka.sasl else { panic!("{:?}", config.kafka) };
    assert_eq!(password.reveal(), "s3cret");
    assert_eq!(config.feedback.connection.get_password(), Some("s3cret".as_bytes()));
    let http = config.http;
    assert_eq!(http.token.unwrap().secret.reveal(), "s3cret");
    let viewer = http.viewer_token.unwrap();
    assert_eq!((viewer.secret.reveal(), viewer.file), ("v1ewer", Some(folder.path("dinnerbell-viewer"))));
    assert_eq!(http.tls.unwrap().key_file, folder.path("server.key"));
    assert_eq!((http.hosts, http.proxy.unwrap().role), (vec!["bell.example.org".to_owned()], http::Role::Viewer));
}

#[test]
fn the_environment_stands_over_the_file_and_alone_may_suffice() {
    let config = Folder::new(&with("kafka", "group_id = \"file\""))
        .load(&[
            ("DINNERBELL_KAFKA__GROUP_ID", "environment"),
            ("DINNERBELL_KAFKA__TOPICS__DEAD_LETTERS", "promo.dead"),
            ("DINNERBELL_FANOUT__LATE_SUBSCRIBERS", "false"),
            ("DINNERBELL_FANOUT__ROUND_ROWS", "7"),
            ("OTHER_KAFKA__GROUP_ID", "other"),
        ])
        .unwrap();
    assert_eq!(config.kafka.group_id, "environment");
    assert_eq!(config.kafka.topics.dead_letters.as_deref(), Some("promo.dead"));
    assert!(!config.fanout.late_subscribers);
    assert_eq!(config.fanout.round_rows, 7);

    let alone = [
        ("DINNERBELL_KAFKA__BOOTSTRAP_SERVERS", "localhost:9092"),
        ("DINNERBELL_KAFKA__TOPICS__CAMPAIGNS", "in"),
        ("DINNERBELL_KAFKA__TOPICS__NOTIFICATIONS", "out"),
        ("DINNERBELL_SUBSCRIBERS__URL", "postgres://h/d"),
        ("DINNERBELL_FEEDBACK__URL", "host=h dbname=d"),
    ];
    assert!(Folder::new("").load(&alone).is_ok());
}

#[test]
fn settings_of_librdkafka_come_through_from_both_layers_under_one_name_each() {
    let file =
        with("kafka.client", "compression.type = \"gzip\"\n\"socket.keepalive.enable\" = true\nfetch.wait.max.ms = 5");
    let config = Folder::new(&file)
        .load(&[
            ("DINNERBELL_KAFKA__CLIENT__COMPRESSION_CODEC", "lz4"),
            ("DINNERBELL_KAFKA__CLIENT__FETCH_MIN_BYTES", "9"),
        ])
        .unwrap();
    let client: Vec<_> = config.kafka.client.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("compression.codec", "lz4"),
        ("fetch.min.bytes", "9"),
        ("fetch.wait.max.ms", "5"),
        ("socket.keepalive.enable", "true"),
    ];
    assert_eq!(client, expected);
}

#[test]
fn words_of_librdkafka_are_read_in_any_case_and_with_spaces_around() {
    let file = with(
        "kafka.client",
        "compression.type = \" LZ4 \"\n\"ssl.endpoint.identification.algorithm\" = \"None\"\n\"client.id\" = \"Mine\"",
    );
    let client = Folder::new(&file).load(&[]).unwrap().kafka.client;
    assert_eq!(client["compression.codec"], "lz4");
    assert_eq!(client["ssl.endpoint.identification.algorithm"], "none");
    assert_eq!(client["client.id"], "Mine", "a name stays as it is");
}

#[test]
fn a_secret_comes_as_a_value_as_a_file_or_from_the_environment_and_the_later_layer_wins() {
    let folder = Folder::new(&with("feedback", "password_file = \"secret\""));
    folder.write("secret", "from a file\r\n");
    folder.write("other", "from another file\n\n");
    let password =
        |config: &Config| String::from_utf8(config.feedback.connection.get_password().unwrap().to_vec()).unwrap();
    assert_eq!(password(&folder.load(&[]).unwrap()), "from a file");
    let environment = [("DINNERBELL_FEEDBACK__PASSWORD", "from the environment")];
    assert_eq!(password(&folder.load(&environment).unwrap()), "from the environment");
    let other = folder.path("other");
    let environment = [("DINNERBELL_FEEDBACK__PASSWORD_FILE", other.to_str().unwrap())];
    assert_eq!(password(&folder.load(&environment).unwrap()), "from another file\n");
    let environment = [("DINNERBELL_FEEDBACK__URL", "postgres://u:from%20the%20url@h/d")];
    assert_eq!(password(&folder.load(&environment).unwrap()), "from the url");

    let folder = Folder::new(&MINIMAL.replace("u@analytics", "u:old@analytics"));
    assert_eq!(password(&folder.load(&[]).unwrap()), "old");
    let environment = [("DINNERBELL_FEEDBACK__PASSWORD", "new")];
    assert_eq!(password(&folder.load(&environment).unwrap()), "new");
}

#[test]
fn paths_start_at_the_folder_of_the_file() {
    let folder = Folder::new(&MINIMAL.replace("replica/de", "replica/de?sslmode=verify-full&sslrootcert=CA.pem"));
    folder.write("CA.pem", &certificate().0);
    let config = folder.load(&[]).unwrap();
    assert_eq!(config.subscribers.tls.root_cert, Some(folder.path("CA.pem")));
    assert_eq!(config.subscribers.tls.mode, SslMode::VerifyFull);
}

#[test]
fn kubernetes_service_links_are_not_our_users_mistake() {
    let links = [
        ("DINNERBELL_SERVICE_HOST", "10.0.0.1"),
        ("DINNERBELL_SERVICE_PORT_HTTP", "8080"),
        ("DINNERBELL_PORT", "tcp://10.0.0.1:8080"),
        ("DINNERBELL_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("DINNERBELL_METRICS_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
        ("DINNERBELL_LOG", "debug"),
    ];
    assert!(Folder::new(MINIMAL).load(&links).is_ok());
}

/// A section, a line added to it, the key that is named and a piece of what is said about it.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("kafka", "bootstrap_server = 'x'", "kafka.bootstrap_server", "the nearest is kafka.bootstrap_servers"),
    ("fanuot", "round_rows = 1", "fanuot", "no such section; the nearest is [fanout]"),
    ("foo", "token = 'x'", "foo", "no such section"),
    ("kafka", "client = 5", "kafka.client", "is a section: write [kafka.client]"),
    ("kafka", "security_protocol = 'TLS'", "kafka.security_protocol", "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    ("kafka", "sasl_mechanism = 'GSSAPI'", "kafka.sasl_mechanism", "SCRAM-SHA-512"),
    ("kafka", "security_protocol = 'SASL_SSL'", "kafka.username", "is needed with SASL_SSL"),
    ("kafka", "security_protocol = 'SASL_SSL'", "kafka.password", "kafka.password_file will do"),
    ("kafka", "username = 'bell'", "kafka.username", "needs kafka.security_protocol"),
    ("kafka", "ca_file = 'nowhere.pem'", "kafka.ca_file", "nowhere.pem"),
    ("kafka", "security_protocol = 'SSL'\nca_file = 'dinnerbell.toml'", "kafka.ca_file", "PEM certificates"),
    ("kafka", "group_id = 'a b'", "kafka.group_id", "letters, digits"),
    ("kafka", "start = 'yesterday'", "kafka.start", "RFC 3339"),
    ("kafka", "start = 2023-03-12", "kafka.start", "RFC 3339"),
    ("kafka.topics", "dead_letters = 'promo.in'", "kafka.topics.dead_letters", "kafka.topics.campaigns"),
    ("kafka.topics", "dead_letters = 'a/b'", "kafka.topics.dead_letters", "name of a topic"),
    ("kafka.client", "acks = 1", "kafka.client.acks", "cannot be set here"),
    ("kafka.client", "group.id = 'x'", "kafka.client.group.id", "use kafka.group_id"),
    ("kafka.client", "retry.backof.ms = 1", "kafka.client.retry.backof.ms", "the nearest is retry.backoff.ms"),
    ("kafka.client", "fetch.min.bytes = 'long'", "kafka.client.fetch.min.bytes", "refused by librdkafka"),
    ("kafka.client", "fetch.min.bytes = [1]", "kafka.client.fetch.min.bytes", "a string, a number or a boolean"),
    ("kafka.client", "linger.ms = 1", "kafka.client.linger.ms", "by the service itself"),
    (
        "kafka.client",
        "compression.codec = 'lz4'\ncompression.type = 'zstd'",
        "kafka.client.compression.type",
        "given twice",
    ),
    ("kafka.client", "compression.level = 3", "kafka.client", "lz4 has no levels"),
    ("kafka.client", "ssl.key.password_file = 'none'", "kafka.client.ssl.key.password_file", "none"),
    ("kafka.client", "max.poll.interval.ms = 1000", "kafka.client", "together"),
    ("subscribers", "table = 'a.b.c'", "subscribers.table", "schema.table"),
    ("subscribers", "max_connections = 0", "subscribers.max_connections", "from 1 to 100"),
    ("feedback", "max_connections = 1", "feedback.max_connections", "from 2 to 100"),
    ("feedback", "password = 'a'\npassword_file = 'b'", "feedback.password", "keep one of them"),
    ("feedback", "password_file = 'nowhere'", "feedback.password_file", "nowhere"),
    ("feedback", "password = 5", "feedback.password", "a string in quotes"),
    ("feedback", "table = ['x']", "feedback.table", "a single value"),
    ("fanout", "round_rows = 100001", "fanout.round_rows", "from 1 to 100000"),
    ("fanout", "round_rows = 1.5", "fanout.round_rows", "whole number"),
    ("fanout", "rate_limit = -1", "fanout.rate_limit", "whole number from 0"),
    ("fanout", "late_subscribers = 'yes'", "fanout.late_subscribers", "true or false"),
    ("fanout", "memory_limit = '64MB'", "fanout.memory_limit", "64MiB"),
    ("fanout", "memory_limit = '1KiB'", "fanout.memory_limit", "from 1MiB to 64GiB"),
    ("retention", "rounds = 'a week'", "retention.rounds", "as 90d or 12w"),
    ("retention", "rounds = '1h'", "retention.rounds", "from 1d to 3650d"),
    ("retention", "campaigns = '1d'", "retention.campaigns", "from 7d to 3650d"),
    ("retention", "audit = '7d'", "retention.audit", "from 30d to 3650d"),
    ("http", "listen = '8080'", "http.listen", "127.0.0.1:8080"),
    ("http", "token = 'with a blank'", "http.token", "visible ASCII"),
    ("http", "token = ''", "http.token", "not be blank"),
    ("http", "viewer_token_file = 'nowhere'", "http.viewer_token_file", "nowhere"),
    ("http", "token = 'same'\nviewer_token = 'same'", "http.viewer_token", "anyone who reads could order"),
    ("http", "cert_file = 'dinnerbell.toml'", "http.cert_file", "needs http.key_file"),
    ("http", "key_file = 'dinnerbell.toml'", "http.key_file", "needs http.cert_file"),
    ("http", "cert_file = 'dinnerbell.toml'\nkey_file = 'x'", "http.cert_file", "PEM certificates"),
    ("http", "cert_file = 'x'\nkey_file = 'dinnerbell.toml'", "http.key_file", "without a passphrase"),
    ("http", "hosts = 'https://bell'", "http.hosts", "without port"),
    ("http", "user_header = 'X-User'", "http.user_header_from", "anyone who sets that header is believed"),
    ("http", "user_header = 'Cookie'\nuser_header_from = '::1'", "http.user_header", "only the proxy sets"),
    ("http", "user_header = 'X-User'\nuser_header_from = 'proxy'", "http.user_header_from", "10.0.0.0/8"),
    ("http", "user_header_from = '::1'", "http.user_header_from", "needs http.user_header"),
    ("http", "user_header_role = 'operator'", "http.user_header_role", "needs http.user_header"),
    ("http", "user_header_role = 'admin'", "http.user_header_role", "viewer, operator"),
    ("http", "insecure = 1", "http.insecure", "true or false"),
];

#[test]
fn each_mistake_names_its_key_and_what_would_be_right() {
    for (section, line, key, words) in MISTAKES {
        let errors = Folder::new(&with(section, line)).load(&[]).map(|_| ()).expect_err(line);
        let found = errors.0.iter().any(|mistake| mistake.key == *key && mistake.problem.contains(words));
        assert!(found, "{line}: {errors}");
    }
}

#[test]
fn a_key_that_is_not_the_certificates_own_is_a_mistake() {
    let folder = Folder::new(&with("http", "cert_file = 'one.pem'\nkey_file = 'other.key'"));
    folder.write("one.pem", &certificate().0);
    folder.write("other.key", &certificate().1);
    let errors = folder.load(&[]).unwrap_err();
    assert!(
        errors.to_string().contains("http.key_file") && errors.to_string().contains("is not the key of"),
        "{errors}"
    );
}

#[test]
fn mistakes_of_the_environment_name_the_variable() {
    for (variable, value, words) in [
        ("DINNERBELL_KAFKA_GROUP_ID", "x", "the nearest is DINNERBELL_KAFKA__GROUP_ID"),
        ("DINNERBELL_FANOUT__ROUND_ROWS", "many", "whole number"),
        ("DINNERBELL_KAFKA__CLIENT", "x", "is a section"),
        ("DINNERBELL_KAFKA__CLIENT__ENABLE_IDEMPOTENCE", "false", "cannot be set here"),
        ("DINNERBELL_KAFKA__CLIENT__SSL_KEY_PASSWORD_FILE", "/nowhere", "/nowhere"),
        ("DINNERBELL_KAFKA__GROUP_ID", "\u{FFFD}", "is not UTF-8"),
        ("DINNERBELL_KAFKA__TOPICS__DEAD_LETTERS", "", "name of a topic"),
    ] {
        let errors = Folder::new(MINIMAL).load(&[(variable, value)]).map(|_| ()).expect_err(variable).to_string();
        assert!(errors.contains(&format!("({variable})")) && errors.contains(words), "{errors}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let file = "[http]\nlisten = 1\n[fanout]\nround_rows = 0\n[nonsense]\nx = 1\n";
    let errors = Folder::new(file).load(&[("DINNERBELL_X", "y")]).unwrap_err();
    let keys: Vec<_> = errors.0.iter().map(|mistake| mistake.key.as_str()).collect();
    let expected = [
        "http.listen",
        "fanout.round_rows",
        "nonsense",
        "x",
        "kafka.bootstrap_servers",
        "kafka.topics.campaigns",
        "kafka.topics.notifications",
        "subscribers.url",
        "feedback.url",
    ];
    assert_eq!(keys, expected);
    assert!(errors.to_string().contains("dinnerbell.toml:4"), "{errors}");
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_mistake() {
    let environment = std::iter::empty::<(String, String)>;
    let errors = load(Some(&PathBuf::from("/nowhere/x.toml")), environment()).unwrap_err();
    assert_eq!(errors.0.len(), 1);
    assert!(errors.to_string().contains("/nowhere/x.toml"), "{errors}");
    let errors = Folder::new("[kafka\n").load(&[]).unwrap_err();
    assert!(errors.0.iter().all(|mistake| mistake.problem.starts_with("not TOML")), "{errors}");
}

#[test]
fn what_is_shown_is_toml_with_the_origin_of_each_value() {
    let folder = Folder::new(&with("kafka.client", "fetch.min.bytes = 5"));
    let settings =
        folder.settings(&[("DINNERBELL_FANOUT__ROUND_ROWS", "7"), ("DINNERBELL_FEEDBACK__PASSWORD", "s3cret")]);
    let shown = show::show(&settings);
    assert!(shown.contains("round_rows = 7  # DINNERBELL_FANOUT__ROUND_ROWS"), "{shown}");
    assert!(shown.contains("late_subscribers = true  # default"), "{shown}");
    assert!(shown.contains("dinnerbell.toml:"), "{shown}");
    assert!(shown.contains("password = \"***\""), "{shown}");
    let again = Folder::new(&shown).load(&[]).unwrap();
    assert_eq!(again.fanout.round_rows, 7);
    let json = show::show_json(&settings);
    assert_eq!(json["kafka"]["topics"]["campaigns"], "promo.in");
    assert_eq!(json["kafka"]["client"]["fetch.min.bytes"], "5");
    assert_eq!(json["feedback"]["password"], "***");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a password is made of, wherever it stands and whatever else is wrong, it is in nothing that is printed.
    #[test]
    fn a_secret_is_in_nothing_that_is_printed(
        before in "[a-z]{0,3}[ -~é]{0,4}",
        after in "[ -~é]{0,4}",
        place in 0_usize..11,
        broken in any::<bool>(),
    ) {
        let secret = format!("{before}QZ7W{after}");
        let quoted = toml::Value::String(secret.clone()).to_string();
        let line = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let sasl = "security_protocol = \"SASL_PLAINTEXT\"\nusername = \"u\"\n";
        let mut file = match place {
            0 => with("kafka", &format!("{sasl}password = {quoted}")),
            1 => with("kafka", &format!("password = {quoted}")),
            2 => with("feedback", &format!("password = {quoted}")),
            3 => with("http", &format!("token = {quoted}")),
            4 => with("kafka.client", &format!("ssl.key.password = {quoted}")),
            5 => MINIMAL.replace("\"postgres://u@analytics/de\"", &line(&format!("postgres://u:{secret}@analytics/de"))),
            6 => MINIMAL.replace("\"postgres://u@analytics/de\"", &line(&format!("host=h dbname=d password={secret} user=u"))),
            7 => MINIMAL.replace("\"postgres://u@analytics/de\"", &line(&format!("postgres://h/d?password={secret}&user=u"))),
            8 => with("kafka.client", &format!("sasl.oauthbearer.token.endpoint.url = {}", line(&format!("https://u:{secret}@h/t")))),
            9 => with("kafka.client", &format!("sasl.oauthbearer.token.endpoint.url = {}", line(&format!("https://h/t?key={secret}")))),
            _ => with("feedback", &format!("password = {secret}")),
        };
        if broken {
            file = file.replace("notifications = ", "notification = ").replace("replica/de", "replica") + "\n[http\nlisten=";
        }
        let folder = Folder::new(&file);
        let settings = folder.settings(&[("DINNERBELL_HTTP__TOKEN_FILE", "/nowhere/token")]);
        let mut printed = format!("{:?}\n{}\n{}", check(&settings), show::show(&settings), show::show_json(&settings));
        if let Err(errors) = check(&settings) {
            printed.push_str(&errors.to_string());
        }
        if let Ok(config) = check(&folder.settings(&[])) {
            printed.push_str(&format!("{config:?}"));
        }
        prop_assert!(!printed.contains("QZ7W"), "{}", printed);
    }
}

/// A certificate that signs itself.
fn certificate() -> (String, String) {
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::x509::X509;

    let key = PKey::generate_ed25519().unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::null()).unwrap();
    let text = |pem| String::from_utf8(pem).unwrap();
    (text(builder.build().to_pem().unwrap()), text(key.private_key_to_pem_pkcs8().unwrap()))
}

#[test]
fn a_password_with_a_slash_is_not_taken_for_a_host() {
    for url in ["postgres://u:@QZ7W/@analytics/de", "postgres://u:a@QZ7W?b@analytics/de"] {
        let folder = Folder::new(&MINIMAL.replace("postgres://u@analytics/de", url));
        let settings = folder.settings(&[]);
        let shown = format!("{}\n{}\n{:?}", show::show(&settings), show::show_json(&settings), check(&settings));
        assert!(!shown.contains("QZ7W") && check(&settings).is_err(), "{shown}");
    }
}
