use tempfile::TempDir;

use crate::check::check as check_all;
use crate::kafka_client;
use crate::{Config, ConfigErrors, Sasl, Settings, show};

/// A configuration that logs in by tokens, with these lines more under `[kafka]` and `[kafka.client]`.
fn gather(kafka: &str, client: &str) -> (Settings, TempDir) {
    let text = format!(
        "[kafka]\nbootstrap_servers = 'localhost:9092'\n{kafka}\n[kafka.topics]\ncampaigns = 'in'\nnotifications = 'out'\n\
         [kafka.client]\n{client}\n[subscribers]\nurl = 'postgres://u@replica/de'\n[feedback]\nurl = 'postgres://u@analytics/de'\n"
    );
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("dinnerbell.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.path().join("secret"), "s3cret\n").unwrap();
    std::fs::write(folder.path().join("CA.pem"), "no certificate").unwrap();
    // The files that it names are read when it is checked.
    (Settings::gather(Some(&file), std::iter::empty()), folder)
}

fn load(kafka: &str, client: &str) -> Result<Config, ConfigErrors> {
    let (settings, _folder) = gather(kafka, client);
    check_all(&settings)
}

const SASL: &str = "security_protocol = 'SASL_SSL'\nsasl_mechanism = 'OAUTHBEARER'";
const ENDPOINT: &str = "'sasl.oauthbearer.method' = 'oidc'\n'sasl.oauthbearer.token.endpoint.url' = 'https://issuer/token'\n\
                        'sasl.oauthbearer.client.id' = 'bell'\n'sasl.oauthbearer.client.secret_file' = 'secret'";

#[test]
fn tokens_come_from_an_endpoint_or_a_file_and_librdkafka_sees_none_of_their_settings() {
    let scope = format!("{ENDPOINT}\n'sasl.oauthbearer.scope' = 'kafka'\n'fetch.min.bytes' = 7");
    let config = load(SASL, &scope).unwrap();
    assert!(matches!(config.kafka.sasl, Some(Sasl::Token(_))));
    assert_eq!(config.kafka.client.keys().collect::<Vec<_>>(), ["fetch.min.bytes"]);
    let client = config.kafka.client_config_for(kafka_client::Role::Producer, &[], &[]);
    assert_eq!((client.get("sasl.mechanism"), client.get("sasl.username")), (Some("OAUTHBEARER"), None));
    assert!(format!("{config:?}").contains("https://issuer/token") && !format!("{config:?}").contains("s3cret"));

    let file = "'sasl.oauthbearer.method' = 'oidc'\n'sasl.oauthbearer.token.endpoint.url' = 'file:///run/token'";
    let config = load(SASL, file).unwrap();
    assert!(format!("{:?}", config.kafka.tokens()).contains("file:///run/token"));
}

#[test]
fn the_secret_of_the_client_is_never_shown_whatever_its_name() {
    for name in ["sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret"] {
        let (settings, _folder) = gather(SASL, &format!("'{name}' = 's3cret'"));
        let shown = show::show(&settings) + &show::show_json(&settings).to_string();
        assert!(shown.contains(name) && !shown.contains("s3cret"), "{shown}");
    }
}

/// What is added to an endpoint's settings, and what the mistake says, with its key.
const WRONG: &[(&str, &str, &str)] = &[
    ("'sasl.oauthbearer.extensions' = 'a=b'", "sasl.oauthbearer.extensions", "send no extensions"),
    ("'sasl.oauthbearer.config' = 'principal=x'", "sasl.oauthbearer.config", "file:///"),
    ("'enable.sasl.oauthbearer.unsecure.jwt' = true", "enable.sasl.oauthbearer.unsecure.jwt", "file:///"),
    ("'sasl.oauthbearer.assertion.file' = 'x'", "sasl.oauthbearer.assertion.file", "client_credentials"),
    ("'sasl.oauthbearer.metadata.authentication.type' = 'azure_imds'", "metadata.authentication.type", "file:///"),
    ("'sasl.oauthbearer.sub.claim.name' = 'x'", "sasl.oauthbearer.sub.claim.name", "there are method"),
    ("'sasl.oauthbearer.grant.type' = 'jwt-bearer'", "sasl.oauthbearer.grant.type", "client_credentials"),
    ("'sasl.oauthbearer.scope' = ' '", "sasl.oauthbearer.scope", "must not be blank"),
    ("'https.ca.location' = 'nowhere.pem'", "https.ca.location", "cannot be read"),
    ("'https.ca.location' = 'CA.pem'\n'https.ca.pem' = 'x'", "https.ca.pem", "keep one of them"),
    ("'sasl.mechanisms' = 'OAUTHBEARER'", "sasl.mechanisms", "kafka.sasl_mechanism"),
];

#[test]
fn what_is_not_there_is_refused_by_name_with_what_to_use_instead() {
    for (more, key, word) in WRONG {
        let mistakes = load(SASL, &format!("{ENDPOINT}\n{more}")).unwrap_err().to_string();
        assert!(mistakes.contains(key) && mistakes.contains(word), "{more}: {mistakes}");
    }
    let bare = load(SASL, "").unwrap_err().to_string();
    assert!(bare.contains("sasl.oauthbearer.method") && bare.contains("sasl.oauthbearer.token.endpoint.url"), "{bare}");
    let default = load(SASL, "'sasl.oauthbearer.method' = 'default'").unwrap_err().to_string();
    assert!(default.contains("cannot be default") && default.contains("oidc"), "{default}");
}

#[test]
fn what_would_do_nothing_is_refused() {
    let password = format!("{SASL}\nusername = 'u'\npassword = 's3cret'");
    let mistakes = load(&password, ENDPOINT).unwrap_err().to_string();
    assert!(mistakes.contains("kafka.username") && mistakes.contains("kafka.password"), "{mistakes}");
    let scram = "security_protocol = 'SASL_SSL'\nusername = 'u'\npassword = 's3cret'";
    for kafka in [scram, "security_protocol = 'SSL'\nsasl_mechanism = 'OAUTHBEARER'"] {
        let mistakes = load(kafka, ENDPOINT).unwrap_err().to_string();
        let told = mistakes.contains("client.secret_file") && mistakes.contains("needs kafka.sasl_mechanism");
        assert!(told && !mistakes.contains("s3cret"), "{mistakes}");
    }
    let file = ENDPOINT.replace("https://issuer/token", "file:///run/token");
    let mistakes = load(SASL, &file).unwrap_err().to_string();
    assert!(mistakes.contains("client.id") && mistakes.contains("is a file"), "{mistakes}");
    let relative = "'sasl.oauthbearer.method' = 'oidc'\n'sasl.oauthbearer.token.endpoint.url' = 'file://run/token'";
    assert!(load(SASL, relative).unwrap_err().to_string().contains("three slashes"));
}
